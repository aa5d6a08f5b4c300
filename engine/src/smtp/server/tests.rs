//! The server session: small stories, the matrix of section 26, and what every byte stream must keep.

mod support;

mod bodies;
mod hostile;
mod matrix;
mod properties;
mod reference;
mod refused;
mod silence;
mod smuggling;
mod stories;
mod tarpit;

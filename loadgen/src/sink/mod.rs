//! The sink: accepts mail, writes down what it took, and misbehaves on request.

pub mod fault;

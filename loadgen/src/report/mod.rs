//! What is made of a run: figures, the verdict, the result folder.

pub mod figures;

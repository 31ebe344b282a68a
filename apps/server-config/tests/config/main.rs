//! Configuration files as a whole.

mod common;
mod files;
mod wrong_files;

//! Configuration files as a whole.

mod common;
mod documentation;
mod every_option;
mod files;
mod user_files;
mod wrong_files;

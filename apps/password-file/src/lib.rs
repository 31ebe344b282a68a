//! password-file

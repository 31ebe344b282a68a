//! server-config

//! anyconnect

//! The protocols that the client speaks, each behind the same doors.

pub(crate) mod anyconnect;

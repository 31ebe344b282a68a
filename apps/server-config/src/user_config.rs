//! Per-user and per-group files (`specs/server-config.md` §9.4).

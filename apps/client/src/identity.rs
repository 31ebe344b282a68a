//! What this program calls itself.

/// Version of the reference whose behaviour this program has, as servers and front ends see it.
pub const PROGRAM_VERSION: &str = "v9.21";
/// The TLS implementation, for `--version`.
pub const TLS_LIBRARY: &str = "rustls 0.23 with aws-lc-rs";

/// The default `User-Agent` (`specs/client.md` §10.1).
pub fn user_agent() -> String {
    format!("AnyConnect-compatible OpenConnect VPN Agent {PROGRAM_VERSION}")
}

/// The `User-Agent`: the option's value, else the default.
pub fn user_agent_or(option: Option<&str>) -> String {
    option.map_or_else(user_agent, str::to_owned)
}

/// The version reported in the login.
pub fn version_or(option: Option<&str>) -> String {
    option.unwrap_or(PROGRAM_VERSION).to_owned()
}

/// The operating system reported to the server.
pub fn os_or(option: Option<&str>) -> &str {
    let native = if cfg!(target_pointer_width = "64") {
        "linux-64"
    } else {
        "linux"
    };
    option.unwrap_or(native)
}

/// The host name reported to the server.
pub fn host_name_or(option: Option<&str>) -> String {
    option.map_or_else(
        || {
            let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            match name.trim() {
                "" => "localhost".to_owned(),
                name => name.to_owned(),
            }
        },
        str::to_owned,
    )
}

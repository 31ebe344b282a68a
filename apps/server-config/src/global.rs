//! The options that concern the process.

use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::{BanPolicy, Compression, Global, Protocol, SyslogFacility};
use crate::load::System;
use crate::reader::Reader;
use crate::report::Check;

/// Highest `log-level`.
const LOG_LEVEL_MAX: u32 = 9;
/// Highest `worker-processes`.
const WORKER_PROCESSES_MAX: u16 = 1024;

pub(crate) fn read(reader: &mut Reader<'_>, system: &dyn System) -> Global {
    let tcp_port = reader.small("tcp-port").unwrap_or(0);
    let udp_port = reader.small("udp-port").filter(|&port| port > 0);
    let device = reader.text("device");
    let socket_file = reader.path("socket-file");
    if socket_file.is_none() {
        reader.fail(
            Check::SocketFile,
            None,
            "the 'socket-file' configuration option must be specified!",
        );
    }
    if tcp_port == 0 {
        reader.fail(
            Check::TcpPort,
            reader.line("tcp-port"),
            "the tcp-port option is mandatory!",
        );
    }
    if device.is_none() {
        reader.fail(
            Check::Device,
            None,
            "the 'device' configuration option must be specified!",
        );
    }
    scripts(reader, system);
    Global {
        listen_host: reader.text("listen-host"),
        udp_listen_host: reader.text("udp-listen-host"),
        listen_netns: reader.text("listen-netns"),
        listen_proxy_proto: reader.flag("listen-proxy-proto", false),
        tcp_port,
        udp_port,
        run_as_user: reader.parsed_last("run-as-user", |name| {
            if system.user_exists(name) {
                Ok(name.to_owned())
            } else {
                Err(format!("unknown user: {name}"))
            }
        }),
        run_as_group: reader.parsed_last("run-as-group", |name| {
            if system.group_exists(name) {
                Ok(name.to_owned())
            } else {
                Err(format!("unknown group: {name}"))
            }
        }),
        chroot_dir: reader.parsed_last("chroot-dir", |path| {
            if system.is_directory(Path::new(path)) {
                Ok(PathBuf::from(path))
            } else {
                Err(format!("chroot-dir '{path}' is no directory"))
            }
        }),
        socket_file: socket_file.unwrap_or_default(),
        occtl_socket_file: reader
            .path("occtl-socket-file")
            .unwrap_or_else(|| PathBuf::from("/var/run/occtl.socket")),
        use_occtl: reader.flag("use-occtl", false),
        pid_file: reader.path("pid-file"),
        isolate_workers: reader.flag("isolate-workers", true),
        worker_processes: reader.parsed_last("worker-processes", worker_processes).flatten(),
        protocols: reader.parsed_last("protocols", protocols).unwrap_or_default(),
        limit_worker_memory: reader.flag("limit-worker-memory", true),
        sec_mod_scale: reader.number_or("sec-mod-scale", 0),
        log_level: reader.number_or("log-level", 2).min(LOG_LEVEL_MAX) as u8,
        syslog_facility: reader
            .parsed_last("syslog-facility", |name| {
                SyslogFacility::from_name(name).ok_or_else(|| format!("unknown syslog facility: {name}"))
            })
            .unwrap_or_default(),
        use_utmp: reader.flag("use-utmp", true),
        max_clients: reader.limit("max-clients", None),
        rate_limit: reader.milliseconds("rate-limit-ms"),
        server_drain: reader.milliseconds("server-drain-ms"),
        server_stats_reset_time: reader.seconds_or("server-stats-reset-time", 604_800),
        ban: BanPolicy {
            max_score: reader.limit("max-ban-score", Some(80)),
            time: reader.seconds_or("ban-time", 300),
            reset_time: reader.seconds_or("ban-reset-time", 1200),
            points_wrong_password: reader.number_or("ban-points-wrong-password", 10),
            points_connection: reader.number_or("ban-points-connection", 1),
            points_kkdcp: reader.number_or("ban-points-kkdcp", 1),
        },
        auth_timeout: reader.seconds("auth-timeout", Some(Duration::from_secs(240))),
        dtls_psk: reader.flag("dtls-psk", true),
        try_mtu_discovery: reader.flag("try-mtu-discovery", false),
        compression_algo_priority: compression_priority(reader),
        device: device.unwrap_or_default(),
        ping_leases: reader.flag("ping-leases", false),
        route_add_cmd: reader.text("route-add-cmd"),
        route_del_cmd: reader.text("route-del-cmd"),
        connect_script: reader.path("connect-script"),
        disconnect_script: reader.path("disconnect-script"),
        host_update_script: reader.path("host-update-script"),
        debug_no_secmod_stats: reader.flag("debug-no-secmod-stats", false),
        session_expiry_interval: reader.seconds("sec-mod-db-cleanup-time", None),
    }
}

/// Scripts may come later: what is missing now is only said.
fn scripts(reader: &mut Reader<'_>, system: &dyn System) {
    for name in ["connect-script", "disconnect-script", "host-update-script"] {
        if let Some(value) = reader.values.last(name)
            && !system.is_file(Path::new(&value.text))
        {
            let text = format!(
                "option '{name}' in line {}: cannot open file '{}'",
                value.line, value.text
            );
            reader.report.warn_at(value.line, text);
        }
    }
}

/// Accepts `per-client` and 1 to 1024.
fn worker_processes(text: &str) -> Result<Option<NonZeroU16>, String> {
    if text == "per-client" {
        return Ok(None);
    }
    text.parse::<NonZeroU16>()
        .ok()
        .filter(|count| count.get() <= WORKER_PROCESSES_MAX)
        .map(Some)
        .ok_or_else(|| {
            format!("worker-processes must be 'per-client' or 1 to {WORKER_PROCESSES_MAX}, not '{text}'")
        })
}

/// Names with commas between them. AnyConnect is always served; naming it is allowed.
fn protocols(list: &str) -> Result<Vec<Protocol>, String> {
    let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
    let parsed = names.map(|name| match name {
        "anyconnect" => Ok(None),
        "globalprotect" => Ok(Some(Protocol::GlobalProtect)),
        other => Err(format!("unknown protocol: {other}")),
    });
    let parsed: Result<Vec<_>, _> = parsed.collect();
    Ok(parsed?.into_iter().flatten().collect())
}

/// Accepts `lz4:lzs` (order) and `oc-lz4:90,lzs:80` (priorities).
fn compression_priority(reader: &mut Reader<'_>) -> Vec<Compression> {
    let usual = vec![Compression::OcLz4, Compression::Lzs];
    let Some(value) = reader.values.last("compression-algo-priority") else {
        return usual;
    };
    let by_order = || value.text.split(':').map(algorithm).collect::<Option<Vec<_>>>();
    let by_priority = || {
        let pair = |item: &str| {
            let (name, priority) = item.split_once(':')?;
            Some((algorithm(name)?, priority.trim().parse::<u32>().ok()?))
        };
        let mut pairs = value.text.split(',').map(pair).collect::<Option<Vec<_>>>()?;
        pairs.sort_by_key(|&(_, priority)| std::cmp::Reverse(priority));
        Some(pairs.into_iter().map(|(algorithm, _)| algorithm).collect())
    };
    match by_order().or_else(by_priority) {
        Some(list) => list,
        None => {
            reader.report.warn_at(
                value.line,
                format!("invalid compression modstring {}", value.text),
            );
            usual
        }
    }
}

fn algorithm(name: &str) -> Option<Compression> {
    match name.trim() {
        "lz4" | "oc-lz4" => Some(Compression::OcLz4),
        "lzs" => Some(Compression::Lzs),
        _ => None,
    }
}

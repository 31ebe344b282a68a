//! `show status` (`specs/server-tools.md` §3.5).

use std::fmt::Display;

use super::format::{Object, between, bytes, interval, latency, time};
use crate::messages::Status;

/// One field of the list, in all its forms.
enum Field {
    Text(&'static str, String),
    Number(&'static str, u64),
    /// Value and, in brackets or under `_NAME`, an addition.
    WithExtra(&'static str, String, String),
    /// Only in JSON.
    Raw(&'static str, u64),
    /// A blank line and a title; only in text.
    Section(&'static str),
}

fn fields(status: &Status, debug: bool, now: u64) -> Vec<Field> {
    use Field::{Number, Raw, Section, Text, WithExtra};
    let period = &status.period;
    let mut fields = vec![
        Section("General info:"),
        Text("Status", "online".to_owned()),
        Number("Server PID", status.server_pid.into()),
        Number("Sec-mod PID", status.secmod_pid.into()),
        Number("Sec-mod instance count", status.secmod_instances.into()),
        WithExtra("Up since", time(status.up_since), between(status.up_since, now)),
        Raw("raw_up_since", status.up_since),
        Raw("uptime", now.saturating_sub(status.up_since)),
        Number("Active sessions", status.active_sessions),
        Number("Total sessions", status.total_sessions),
        Number("Total authentication failures", status.total_auth_failures),
        Number("IPs in ban list", status.banned_ips),
    ];
    if debug {
        fields.push(Number("Sec-mod client entries", status.secmod_client_entries));
        fields.push(Number("TLS DB entries", status.tls_db_entries));
    }
    if let Some(measured) = status.latency {
        fields.push(Text("Median latency", latency(measured.median)));
        fields.push(Raw("raw_median_latency", measured.median));
        fields.push(Text("STDEV latency", latency(measured.deviation)));
        fields.push(Raw("raw_stdev_latency", measured.deviation));
    }
    fields.push(Section("Current stats period:"));
    if let Some(reset) = period.last_reset {
        fields.push(WithExtra("Last stats reset", time(reset), between(reset, now)));
        fields.push(Raw("raw_last_stats_reset", reset));
    }
    fields.extend([
        Number("Sessions handled", period.sessions_handled),
        Number("Timed out sessions", period.timed_out),
        Number("Timed out (idle) sessions", period.timed_out_idle),
        Number("Closed due to error sessions", period.closed_by_error),
        Number("Authentication failures", period.auth_failures),
        Text("Average auth time", interval(period.average_auth_time)),
        Raw("raw_avg_auth_time", period.average_auth_time),
        Text("Max auth time", interval(period.max_auth_time)),
        Raw("raw_max_auth_time", period.max_auth_time),
        Text("Average session time", interval(period.average_session_time)),
        Raw("raw_avg_session_time", period.average_session_time),
        Text("Max session time", interval(period.max_session_time)),
        Raw("raw_max_session_time", period.max_session_time),
    ]);
    for (name, mtu) in [("Min MTU", period.min_mtu), ("Max MTU", period.max_mtu)] {
        if mtu > 0 {
            fields.push(Number(name, mtu.into()));
        }
    }
    fields.extend([
        Text("RX", bytes(period.rx_bytes)),
        Raw("raw_rx", period.rx_bytes),
        Text("TX", bytes(period.tx_bytes)),
        Raw("raw_tx", period.tx_bytes),
    ]);
    fields
}

pub(super) fn text(status: &Status, debug: bool, now: u64) -> String {
    let mut out = "Note: the printed statistics are not real-time; session time\n\
                   as well as RX and TX data are updated on user disconnect\n"
        .to_owned();
    let line = |name: &str, value: &dyn Display| format!("\t{name}: {value}\n");
    for field in fields(status, debug, now) {
        out += &match field {
            Field::Text(name, value) => line(name, &value),
            Field::Number(name, value) => line(name, &value),
            Field::WithExtra(name, value, extra) => line(name, &format_args!("{value} ({extra})")),
            Field::Raw(..) => continue,
            Field::Section(title) => format!("\n{title}\n"),
        };
    }
    out
}

pub(super) fn json(status: &Status, debug: bool, now: u64) -> String {
    let mut object = Object::default();
    for field in fields(status, debug, now) {
        match field {
            Field::Text(name, value) => object.text(name, value),
            Field::Number(name, value) | Field::Raw(name, value) => object.number(name, value),
            Field::WithExtra(name, value, extra) => object.text(name, value).text(&format!("_{name}"), extra),
            Field::Section(_) => continue,
        };
    }
    object.render()
}

/// What is shown when the server does not answer.
pub(super) fn offline(json: bool) -> String {
    if json {
        let mut object = Object::default();
        object.text("Status", "offline");
        object.render()
    } else {
        "\tStatus: offline\n".to_owned()
    }
}

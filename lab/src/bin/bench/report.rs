//! Tables and pictures of the results.

use crate::measure::{Case, Plan, Results};

/// One line of the table.
pub(crate) struct Row {
    what: &'static str,
    unit: &'static str,
    real: f64,
    ours: f64,
    wire: Option<f64>,
    more_is_better: bool,
}

impl Row {
    /// How many times better ours is.
    fn ratio(&self) -> f64 {
        if self.more_is_better {
            self.ours / self.real
        } else {
            self.real / self.ours
        }
    }
}

const CASES: [(Case, &str, &str, bool); 16] = [
    (Case::DtlsUp, "DTLS, one TCP stream up", "Gbit/s", true),
    (Case::DtlsDown, "DTLS, one TCP stream down", "Gbit/s", true),
    (Case::DtlsFourUp, "DTLS, four TCP streams up", "Gbit/s", true),
    (Case::DtlsFourDown, "DTLS, four TCP streams down", "Gbit/s", true),
    (Case::TlsUp, "TLS only, one TCP stream up", "Gbit/s", true),
    (Case::TlsDown, "TLS only, one TCP stream down", "Gbit/s", true),
    (
        Case::PacketsUp,
        "DTLS, UDP packets of 200 bytes up",
        "packets/s",
        true,
    ),
    (Case::ClientCpuUp, "client CPU, sending", "s/Gbit", false),
    (Case::ServerCpuUp, "server CPU, receiving", "s/Gbit", false),
    (Case::ClientCpuDown, "client CPU, receiving", "s/Gbit", false),
    (Case::ServerCpuDown, "server CPU, sending", "s/Gbit", false),
    (Case::Ping, "ping, idle", "ms", false),
    (Case::PingLoaded, "ping under load", "ms", false),
    (Case::ClientMemory, "idle client, PSS", "MB", false),
    (
        Case::ServerMemory,
        "idle session on the server, PSS of its worker",
        "MB",
        false,
    ),
    (Case::Logins, "logins, one after the other", "per s", true),
];

/// The rows for which both sides were measured.
pub(crate) fn rows(ours: &Results, real: &Results, wire: &Results) -> Vec<Row> {
    let row = |(case, what, unit, more_is_better): (Case, &'static str, &'static str, bool)| {
        let (real, ours) = (real.median(case)?, ours.median(case)?);
        Some(Row {
            what,
            unit,
            real,
            ours,
            wire: wire.median(case),
            more_is_better,
        })
    };
    CASES.into_iter().filter_map(row).collect()
}

fn number(value: f64) -> String {
    match value {
        _ if value >= 1000.0 => format!("{value:.0}"),
        _ if value >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// The results as a page.
pub(crate) fn markdown(rows: &[Row], plan: &Plan) -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name\t: "))
        .unwrap_or("unknown processor");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let mut text = format!(
        "# Benchmark\n\n`make bench` on {cores} cores of {model}: medians of {} interleaved rounds, {} s per transfer, both ends\n\
         on this machine. Real: openconnect and ocserv of Debian 12. The ratio says how many times better ours is.\n\n\
         | case | unit | real | ours | ratio | bare veth |\n|---|---|---|---|---|---|\n",
        plan.rounds, plan.seconds
    );
    for row in rows {
        let wire = row.wire.map(number).unwrap_or_default();
        let (real, ours) = (number(row.real), number(row.ours));
        text.push_str(&format!(
            "| {} | {} | {real} | {ours} | {:.1} | {wire} |\n",
            row.what,
            row.unit,
            row.ratio()
        ));
    }
    text.push_str("\n![ratios](bench.svg)\n");
    text
}

/// The ratios as a bar chart.
pub(crate) fn svg(rows: &[Row]) -> String {
    const LINE: f64 = 26.0;
    const LEFT: f64 = 330.0;
    const WIDTH: f64 = 380.0;
    let most = rows.iter().map(Row::ratio).fold(1.0, f64::max);
    let scale = WIDTH / most;
    let height = LINE * (rows.len() as f64 + 1.5);
    let one = LEFT + scale;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"800\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"18\" font-weight=\"bold\">How many times better than openconnect and ocserv of Debian 12</text>\n"
    );
    for (index, row) in rows.iter().enumerate() {
        let y = LINE * (index as f64 + 1.2);
        let (ratio, text_y) = (row.ratio(), y + 15.0);
        let colour = if ratio >= 1.0 { "#2a7f62" } else { "#b5482e" };
        let width = ratio * scale;
        svg.push_str(&format!(
            "<text x=\"{}\" y=\"{text_y}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"20\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{text_y}\">{ratio:.1}</text>\n",
            LEFT - 8.0,
            row.what,
            LEFT + width + 6.0,
        ));
    }
    svg.push_str(&format!(
        "<line x1=\"{one:.1}\" y1=\"{LINE}\" x2=\"{one:.1}\" y2=\"{height}\" stroke=\"#555\" stroke-dasharray=\"4 3\"/>\n</svg>\n"
    ));
    svg
}

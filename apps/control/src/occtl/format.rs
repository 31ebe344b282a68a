//! Value formats (`specs/server-tools.md` §3.4) and the layout of JSON.

use std::fmt::Write;

use chrono::{Local, TimeZone};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Local time as `2026-11-21 18:27`.
pub(super) fn time(seconds: u64) -> String {
    let local = i64::try_from(seconds)
        .ok()
        .and_then(|seconds| Local.timestamp_opt(seconds, 0).single());
    local
        .map(|time| time.format("%Y-%m-%d %H:%M").to_string())
        .unwrap_or_else(|| "?".to_owned())
}

/// A time span in up to seven columns.
pub(super) fn interval(seconds: u64) -> String {
    match seconds {
        0..=MINUTE => format!("{seconds:>5}s"),
        _ if seconds < HOUR => format!("{:>2}m:{:02}s", seconds / MINUTE, seconds % MINUTE),
        _ if seconds < 2 * DAY => format!("{:>2}h:{:02}m", seconds / HOUR, seconds % HOUR / MINUTE),
        _ => format!("{:>2}days", seconds / DAY),
    }
}

/// The span between two times; `?` when they are in the wrong order.
pub(super) fn between(from: u64, to: u64) -> String {
    to.checked_sub(from)
        .map_or_else(|| "   ?   ".to_owned(), interval)
}

/// Decimal multiples of bytes.
pub(super) fn bytes(count: u64) -> String {
    let scaled = |unit: f64, name: &str| format!("{:.1} {name}", count as f64 / unit);
    match count {
        0..=1000 => format!("{count} bytes"),
        _ if count < 1_000_000 => scaled(1e3, "kB"),
        _ if count < 1_000_000_000 => scaled(1e6, "MB"),
        _ => scaled(1e9, "GB"),
    }
}

/// Decimal multiples of bytes per second.
pub(super) fn rate(bytes_per_second: u64) -> String {
    format!("{}/s", bytes(bytes_per_second))
}

/// A time given in microseconds.
pub(super) fn latency(microseconds: u64) -> String {
    match microseconds {
        0..1000 => "<1ms".to_owned(),
        1000..1_000_000 => format!("{}ms", microseconds / 1000),
        _ => format!("{}s", microseconds / 1_000_000),
    }
}

/// Text of a client, fit for a terminal.
pub(super) fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// A name, or `(none)`.
pub(super) fn name_or_none(name: Option<&str>) -> String {
    name.filter(|name| !name.is_empty())
        .map_or_else(|| "(none)".to_owned(), clean)
}

/// `(DTLS1.2)-(PSK)-(AES-256-GCM)` without version and key exchange.
pub(super) fn short_cipher(description: &str) -> String {
    let cipher = description.splitn(3, ")-(").nth(2);
    cipher.map_or_else(|| clean(description), |cipher| clean(&format!("({cipher}")))
}

/// One JSON object in ocserv's layout, its members in order.
#[derive(Debug, Default)]
pub(super) struct Object(Vec<String>);

impl Object {
    /// A string; empty ones are left out.
    pub(super) fn text(&mut self, name: &str, value: impl AsRef<str>) -> &mut Self {
        if !value.as_ref().is_empty() {
            self.0.push(format!("\"{name}\":  {}", quoted(value.as_ref())));
        }
        self
    }

    /// A string that may be missing.
    pub(super) fn optional(&mut self, name: &str, value: Option<impl ToString>) -> &mut Self {
        self.text(name, value.map(|value| value.to_string()).unwrap_or_default())
    }

    pub(super) fn number(&mut self, name: &str, value: impl Into<u64>) -> &mut Self {
        self.0.push(format!("\"{name}\":  {}", value.into()));
        self
    }

    pub(super) fn list(&mut self, name: &str, values: &[String]) -> &mut Self {
        let values: Vec<String> = values.iter().map(|value| quoted(value)).collect();
        self.0.push(format!("\"{name}\":\t[{}]", values.join(", ")));
        self
    }

    /// The object on its own.
    pub(super) fn render(&self) -> String {
        format!("  {{\n    {}\n  }}\n", self.0.join(",\n    "))
    }
}

/// An array of objects.
pub(super) fn array(objects: &[Object]) -> String {
    let rendered: Vec<String> = objects
        .iter()
        .map(|object| object.render().trim_end().to_owned())
        .collect();
    if rendered.is_empty() {
        "[\n]\n".to_owned()
    } else {
        format!("[\n{}\n]\n", rendered.join(",\n\n"))
    }
}

/// A JSON string. Everything that could reach a terminal as a control is escaped.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            _ if c.is_control() => {
                // writing to a String cannot fail
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            _ => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn intervals() {
        for (seconds, text) in [
            (0, "    0s"),
            (60, "   60s"),
            (61, " 1m:01s"),
            (3599, "59m:59s"),
            (3600, " 1h:00m"),
            (172_799, "47h:59m"),
            (172_800, " 2days"),
            (8_640_000, "100days"),
        ] {
            assert_eq!(interval(seconds), text);
        }
        assert_eq!(between(10, 9), "   ?   ");
    }

    #[test]
    fn sizes_and_latencies() {
        for (count, text) in [
            (0, "0 bytes"),
            (1000, "1000 bytes"),
            (40_000, "40.0 kB"),
            (2_500_000, "2.5 MB"),
            (1_000_000_000, "1.0 GB"),
        ] {
            assert_eq!(bytes(count), text);
        }
        assert_eq!(rate(31), "31 bytes/s");
        assert_eq!(
            [0, 999, 1000, 2_500_000].map(latency),
            ["<1ms", "<1ms", "1ms", "2s"]
        );
    }

    #[test]
    fn ciphers_are_shortened() {
        assert_eq!(short_cipher("(DTLS1.2)-(PSK)-(AES-256-GCM)"), "(AES-256-GCM)");
        assert_eq!(
            short_cipher("(DTLS1.2)-(ECDHE-RSA)-(AES-256-GCM)"),
            "(AES-256-GCM)"
        );
        assert_eq!(
            short_cipher("(DTLS0.9)-(RSA)-(AES-128-CBC)-(SHA1)"),
            "(AES-128-CBC)-(SHA1)"
        );
        assert_eq!(short_cipher("odd"), "odd");
    }

    proptest! {
        #[test]
        fn json_is_valid_whatever_the_text(text in any::<String>()) {
            let mut object = Object::default();
            object.text("text", format!("x{text}")).list("list", std::slice::from_ref(&text));
            let parsed: serde_json::Value = serde_json::from_str(&array(&[object])).expect("valid JSON");
            let expected = format!("x{text}");
            prop_assert_eq!(parsed[0]["text"].as_str(), Some(expected.as_str()));
            prop_assert_eq!(parsed[0]["list"][0].as_str(), Some(text.as_str()));
        }

        #[test]
        fn clean_text_has_no_controls(text in any::<String>()) {
            prop_assert!(!clean(&text).chars().any(char::is_control));
        }
    }
}

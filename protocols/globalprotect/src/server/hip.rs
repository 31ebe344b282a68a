//! Reports of clients about their hosts (`specs/globalprotect.md` §10): by which name they are known, and
//! what the log says of them.

use std::time::Duration;

use culvert_login::server::ReportName;
use culvert_wire::xml::{self, Element};
use data_encoding::HEXLOWER_PERMISSIVE;

use super::request::Fields;

/// Most characters of a value that is repeated.
const VALUE_MAX: usize = 100;

/// Time for which a report is good: a minute less than the hour after which clients ask again, so that
/// their next question in time finds it over.
pub(super) const REPORT_LIFE: Duration = Duration::from_secs(3540);

/// The name of a report: 32 hexadecimal digits.
pub(super) fn parse_name(text: &str) -> Option<ReportName> {
    let octets = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?;
    octets.try_into().ok()
}

/// A report that a client has sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Report {
    /// Its name; `None` when it has none by which it could be known again.
    pub(super) name: Option<ReportName>,
    /// A line for the log.
    pub(super) line: String,
}

impl Report {
    /// The report of a request; `asked` is the name under which it was asked for.
    pub(super) fn of(fields: &Fields, asked: Option<&str>) -> Self {
        let text = fields.get("report").unwrap_or_default();
        let user = shown(fields.get("user").unwrap_or_default());
        let root = xml::parse(text.as_bytes())
            .ok()
            .filter(|root| root.name == "hip-report");
        match root {
            Some(root) => Self {
                name: root
                    .child("md5-sum")
                    .and_then(|sum| parse_name(sum.text().trim())),
                line: describe(&root, &user, text.len(), asked),
            },
            None => Self {
                name: None,
                line: format!(
                    "host report of '{user}': {} octets that are no report",
                    text.len()
                ),
            },
        }
    }
}

fn describe(root: &Element, user: &str, size: usize, asked: Option<&str>) -> String {
    let text = |parent: Option<&Element>, name: &str| {
        let child = parent.and_then(|parent| parent.child(name));
        shown(child.map(Element::text).unwrap_or_default().trim())
    };
    let host = root.child("categories").and_then(|categories| {
        let mut entries = categories.elements();
        entries.find(|entry| entry.attribute("name") == Some("host-info"))
    });
    let mut line = format!(
        "host report of '{user}': host '{}', system '{}', client '{}', {size} octets",
        text(Some(root), "host-name"),
        text(host, "os"),
        text(host, "client-version"),
    );
    let named = text(Some(root), "md5-sum");
    if asked.is_some_and(|asked| shown(asked) != named) {
        line.push_str("; its md5-sum is not the one that was asked for");
    }
    line
}

/// As much of a client's text as a line of the log may hold.
pub(super) fn shown(text: &str) -> String {
    let visible = text.chars().filter(|c| !c.is_control());
    visible.take(VALUE_MAX).collect()
}

#[cfg(test)]
mod tests {
    use culvert_wire::form;
    use culvert_wire::http::Request;
    use proptest::prelude::*;

    use super::*;

    fn line(report: &str, asked: Option<&str>) -> String {
        self::report(report, asked).line
    }

    fn report(report: &str, asked: Option<&str>) -> Report {
        let mut request = Request::new("POST", "/ssl-vpn/hipreport.esp");
        request.body = form::encode([("user", "joe\n"), ("report", report)]).into_bytes();
        Report::of(&Fields::of(&request).unwrap(), asked)
    }

    #[test]
    fn reports_have_names() {
        let name = |sum: &str| {
            report(
                &format!("<hip-report><md5-sum>{sum}</md5-sum></hip-report>"),
                None,
            )
            .name
        };
        let digits = "00112233445566778899aabbccDDEEff";
        assert_eq!(name(digits), parse_name(digits));
        assert_eq!(name(digits).map(|name| name[15]), Some(0xff));
        for text in ["", "x", &digits[1..], &format!("{digits}00")] {
            assert_eq!(name(text), None, "{text}");
        }
        assert_eq!(report("junk", None).name, None);
    }

    #[test]
    fn what_the_log_says() {
        let report = "<hip-report><md5-sum>ab</md5-sum><host-name>pc</host-name><categories>\
            <entry name='host-info'><client-version>1.2</client-version><os>Linux</os></entry></categories></hip-report>";
        let expected = "host report of 'joe': host 'pc', system 'Linux', client '1.2', 178 octets";
        assert_eq!(line(report, Some("ab")), expected);
        assert_eq!(line(report, None), expected);
        let other = line(report, Some("cd"));
        assert_eq!(
            other,
            format!("{expected}; its md5-sum is not the one that was asked for")
        );
        assert_eq!(
            line("junk", None),
            "host report of 'joe': 4 octets that are no report"
        );
    }

    proptest! {
        #[test]
        fn never_panics(report in "(<hip-report>|</hip-report>|<categories>|<entry name='host-info'/>|x){0,8}") {
            let _ = line(&report, Some("x"));
        }
    }
}

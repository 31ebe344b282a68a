//! Reports of clients about their hosts (`specs/globalprotect.md` §10): what the log says of them.

use culvert_wire::xml::{self, Element};

use super::request::Fields;

/// Most characters of a value that is repeated.
const VALUE_MAX: usize = 100;

/// One line about the report of a request; `asked` is the name under which it was asked for.
pub(super) fn describe(fields: &Fields, asked: Option<&str>) -> String {
    let report = fields.get("report").unwrap_or_default();
    let user = shown(fields.get("user").unwrap_or_default());
    let size = report.len();
    let Some(root) = xml::parse(report.as_bytes())
        .ok()
        .filter(|root| root.name == "hip-report")
    else {
        return format!("host report of '{user}': {size} octets that are no report");
    };
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
        text(Some(&root), "host-name"),
        text(host, "os"),
        text(host, "client-version"),
    );
    let named = text(Some(&root), "md5-sum");
    if asked.is_some_and(|asked| shown(asked) != named) {
        line.push_str("; its md5-sum is not the one that was asked for");
    }
    line
}

fn shown(text: &str) -> String {
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
        let mut request = Request::new("POST", "/ssl-vpn/hipreport.esp");
        request.body = form::encode([("user", "joe\n"), ("report", report)]).into_bytes();
        describe(&Fields::of(&request).unwrap(), asked)
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

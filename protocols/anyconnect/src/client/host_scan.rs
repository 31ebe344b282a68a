//! What a gateway says about a host scan (`specs/anyconnect.md` §8).

use culvert_wire::xml::Element;

use super::platform::Platform;

/// A host scan that is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct HostScanRequest {
    pub(super) ticket: String,
    pub(super) token: String,
    linux: Places,
    mac: Places,
    windows: Places,
}

/// Where a scan finds what it needs; empty where nothing is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// The program.
    pub(super) program: String,
    /// What the program talks to.
    pub(super) start: String,
    /// Page that tells when the scan has been judged.
    pub(super) wait: String,
}

impl HostScanRequest {
    /// Reads a document of either style; `None` if it asks for no scan.
    pub(super) fn parse(root: &Element) -> Option<Self> {
        if let Some(scan) = root.child("host-scan") {
            let text = |name: &str| scan.child(name).map(Element::text).unwrap_or_default();
            let text = |name: &str| text(name).trim().to_owned();
            let places = Places {
                program: String::new(),
                start: text("host-scan-base-uri"),
                wait: text("host-scan-wait-uri"),
            };
            return Some(Self {
                ticket: text("host-scan-ticket"),
                token: text("host-scan-token"),
                linux: places.clone(),
                mac: places.clone(),
                windows: places,
            });
        }
        let auth = match root.name.as_str() {
            "auth" => root,
            _ => root.child("auth")?,
        };
        let names = ["csd", "csdLinux", "csdMac"];
        let elements = names.map(|name| auth.child(name));
        if elements.iter().all(Option::is_none) {
            return None;
        }
        let attribute = |name: &str| {
            let mut found = elements.iter().flatten();
            let value = found.find_map(|element| element.attribute(name));
            value.unwrap_or_default().to_owned()
        };
        let [windows, linux, mac] = elements.map(|element| element.map(Places::of_attributes));
        Some(Self {
            ticket: attribute("ticket"),
            token: attribute("token"),
            linux: linux.unwrap_or_default(),
            mac: mac.unwrap_or_default(),
            windows: windows.unwrap_or_default(),
        })
    }

    /// The places for this platform. There is no program for mobile ones.
    pub(super) fn places(&self, platform: &Platform) -> Places {
        match platform.name() {
            "mac-intel" => self.mac.clone(),
            "win" => self.windows.clone(),
            "android" | "apple-ios" => Places {
                program: String::new(),
                ..self.linux.clone()
            },
            _ => self.linux.clone(),
        }
    }
}

impl Places {
    fn of_attributes(element: &Element) -> Self {
        let text = |name: &str| element.attribute(name).unwrap_or_default().to_owned();
        Self {
            program: text("stuburl"),
            start: text("starturl"),
            wait: text("waiturl"),
        }
    }
}

#[cfg(test)]
mod tests {
    use culvert_wire::xml;

    use super::*;

    fn parse(text: &str) -> Option<HostScanRequest> {
        HostScanRequest::parse(&xml::parse(text.as_bytes()).unwrap())
    }

    fn places(scan: &HostScanRequest, os: &str) -> [String; 3] {
        let Places { program, start, wait } = scan.places(&Platform::new(os).unwrap());
        [program, start, wait]
    }

    #[test]
    fn the_new_style() {
        let scan = parse(
            "<config-auth><host-scan><host-scan-ticket>T</host-scan-ticket><host-scan-token> K\n</host-scan-token>\
             <host-scan-base-uri>/base</host-scan-base-uri><host-scan-wait-uri>/wait</host-scan-wait-uri></host-scan></config-auth>",
        )
        .unwrap();
        assert_eq!((scan.ticket.as_str(), scan.token.as_str()), ("T", "K"));
        assert_eq!(places(&scan, "linux"), ["", "/base", "/wait"]);
    }

    #[test]
    fn the_old_style_by_platform() {
        let old = "<auth><csd ticket='T' token='K' stuburl='/w'/><csdMac stuburl='/m'/>\
                   <csdLinux stuburl='/l' starturl='/s' waiturl='/x'/></auth>";
        for text in [old.to_owned(), format!("<config-auth>{old}</config-auth>")] {
            let scan = parse(&text).unwrap();
            assert_eq!((scan.ticket.as_str(), scan.token.as_str()), ("T", "K"));
            assert_eq!(places(&scan, "linux-64"), ["/l", "/s", "/x"]);
            assert_eq!(places(&scan, "android"), ["", "/s", "/x"]);
            assert_eq!(places(&scan, "mac-intel"), ["/m", "", ""]);
            assert_eq!(places(&scan, "win"), ["/w", "", ""]);
        }
    }

    #[test]
    fn documents_without_a_scan() {
        for text in ["<auth/>", "<config-auth><auth/></config-auth>", "<config-auth/>"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}

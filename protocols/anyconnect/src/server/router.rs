//! URLs of the server (`specs/anyconnect.md` §5.1). What is not listed is not found; only a POST
//! to an unknown path is a login, because clients post to the path of their group.

/// A file that clients expect and whose content never changes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StaticFile {
    pub(super) content_type: &'static str,
    pub(super) body: &'static str,
}

const EMPTY_MANIFEST: StaticFile = StaticFile {
    content_type: "text/xml",
    body: "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<vpn rev=\"1.0\">\n</vpn>\n",
};
const EMPTY_PAGE: StaticFile = StaticFile {
    content_type: "text/html",
    body: "<html></html>\n",
};
const NO_UPDATE: StaticFile = StaticFile {
    content_type: "text/xml",
    body: "0,0,0000\n",
};
const NO_DOWNLOADER: StaticFile = StaticFile {
    content_type: "application/x-shellscript",
    body: "#!/bin/sh\n\nexit 0",
};

const STATIC_FILES: [(&str, &StaticFile); 13] = [
    ("/VPNManifest.xml", &EMPTY_MANIFEST),
    ("/1/VPNManifest.xml", &EMPTY_MANIFEST),
    ("/+CSCOT+/translation-table", &EMPTY_MANIFEST),
    ("/+CSCOT+/oem-customization", &EMPTY_MANIFEST),
    ("/1/binaries/update.txt", &NO_UPDATE),
    ("/1/binaries/vpndownloader.sh", &NO_DOWNLOADER),
    ("/1/index.html", &EMPTY_PAGE),
    ("/1/Linux", &EMPTY_PAGE),
    ("/1/Linux_64", &EMPTY_PAGE),
    ("/1/Windows", &EMPTY_PAGE),
    ("/1/Windows_ARM64", &EMPTY_PAGE),
    ("/1/Darwin_i386", &EMPTY_PAGE),
    ("/logout", &EMPTY_PAGE),
];
const LOGIN: [&str; 3] = ["/", "/auth", "/VPN"];
const PROFILES: &str = "/profiles";
const PHONE: &str = "/svc";
/// Clavister's client leaves out the slash.
const TUNNEL: [&str; 2] = ["/CSCOSSLC/tunnel", "CSCOSSLC/tunnel"];

/// What a request is for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Endpoint<'a> {
    /// A login form or an answer to one.
    Login {
        /// The path, when it is none of the known ones: may name a group.
        group_path: Option<&'a str>,
    },
    /// The client profile.
    Profile,
    /// A file.
    Static(&'static StaticFile),
    /// The service for telephones.
    Phone,
    /// The tunnel.
    Tunnel,
    /// Nothing.
    NotFound,
}

/// The endpoint of a request.
pub(super) fn route<'a>(method: &str, target: &'a str) -> Endpoint<'a> {
    match method {
        "GET" => route_get(target),
        "POST" => route_post(target),
        "CONNECT" if TUNNEL.contains(&target) => Endpoint::Tunnel,
        _ => Endpoint::NotFound,
    }
}

fn route_get(target: &str) -> Endpoint<'_> {
    let matches = |url: &str| {
        target
            .strip_prefix(url)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
    };
    if LOGIN.into_iter().any(matches) {
        return Endpoint::Login { group_path: None };
    }
    if let Some((_, file)) = STATIC_FILES.iter().find(|(url, _)| matches(url)) {
        return Endpoint::Static(file);
    }
    if matches(PHONE) {
        return Endpoint::Phone;
    }
    if target.starts_with(PROFILES) {
        Endpoint::Profile
    } else {
        Endpoint::NotFound
    }
}

fn route_post(target: &str) -> Endpoint<'_> {
    let path = target.split('?').next().unwrap_or_default();
    if LOGIN.contains(&path) {
        return Endpoint::Login { group_path: None };
    }
    if path == PHONE {
        return Endpoint::Phone;
    }
    if path.starts_with(PROFILES) || STATIC_FILES.iter().any(|(url, _)| *url == path) {
        return Endpoint::NotFound;
    }
    match path.strip_prefix('/') {
        Some(group) => Endpoint::Login {
            group_path: Some(group),
        },
        None => Endpoint::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGIN_FORM: Endpoint<'static> = Endpoint::Login { group_path: None };

    #[test]
    fn get() {
        for url in ["/", "/?x", "/auth", "/auth/foo", "/auth?x=1", "/VPN"] {
            assert_eq!(route("GET", url), LOGIN_FORM, "{url}");
        }
        for url in [
            "/nosuch",
            "/authx",
            "/cert.pem",
            "/+CSCOE+/logon.html",
            "*",
            "",
            "auth",
            "/svcx",
        ] {
            assert_eq!(route("GET", url), Endpoint::NotFound, "{url}");
        }
        assert_eq!(
            route("GET", "/+CSCOT+/translation-table?textdomain=AnyConnect"),
            Endpoint::Static(&EMPTY_MANIFEST)
        );
        assert_eq!(route("GET", "/1/Linux_64"), Endpoint::Static(&EMPTY_PAGE));
        assert_eq!(route("GET", "/profiles%2Fx"), Endpoint::Profile);
        assert_eq!(route("GET", "/svc"), Endpoint::Phone);
    }

    #[test]
    fn post() {
        for url in ["/", "/auth", "/auth?secret", "/VPN?"] {
            assert_eq!(route("POST", url), LOGIN_FORM, "{url}");
        }
        assert_eq!(
            route("POST", "/staff?x"),
            Endpoint::Login {
                group_path: Some("staff")
            }
        );
        for url in ["/profiles", "/profiles/x", "/logout", "/1/Linux?x", "*", ""] {
            assert_eq!(route("POST", url), Endpoint::NotFound, "{url}");
        }
    }

    #[test]
    fn other_methods() {
        assert_eq!(route("CONNECT", "/CSCOSSLC/tunnel"), Endpoint::Tunnel);
        assert_eq!(route("CONNECT", "CSCOSSLC/tunnel"), Endpoint::Tunnel);
        for (method, url) in [
            ("CONNECT", "/"),
            ("PUT", "/"),
            ("HEAD", "/"),
            ("OPTIONS", "*"),
            ("get", "/"),
        ] {
            assert_eq!(route(method, url), Endpoint::NotFound, "{method} {url}");
        }
    }

    #[test]
    fn sizes_of_static_files() {
        assert_eq!(
            [EMPTY_MANIFEST, EMPTY_PAGE, NO_UPDATE, NO_DOWNLOADER].map(|file| file.body.len()),
            [62, 14, 9, 17]
        );
    }
}

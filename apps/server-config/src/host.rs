//! The options of one host.

use std::path::Path;
use std::time::Duration;

use culvert_vocab::{GroupName, NameError, SecretString};

use crate::auth::{AccountingMethod, AuthConfig, AuthMethod, CertificateRequest};
use crate::config::{CertRebind, Global, Host, RekeyMethod, SelectGroup, SessionSettings, UsernameCase};
use crate::kkdcp::Kkdcp;
use crate::load::System;
use crate::reader::Reader;
use crate::report::Check;
use crate::session;
use culvert_priorities::TlsPriorities;

/// Most alternatives to log in, `auth` counting as one.
const AUTH_METHODS_MAX: usize = 4;
/// Longest banner in bytes.
const BANNER_MAX: usize = 256;
/// Most `select-group` lines.
const SELECT_GROUPS_MAX: usize = 96;
/// A limit below this many bytes is useless.
const COMPRESS_LIMIT_MIN: u32 = 64;

pub(crate) fn read(reader: &mut Reader<'_>, global: &Global, system: &dyn System) -> Host {
    let cisco_client_compat = reader.flag("cisco-client-compat", false);
    let cisco_svc_client_compat = reader.flag("cisco-svc-client-compat", false);
    let legacy = reader.flag("dtls-legacy", true);
    let by_url = reader.flag("select-group-by-url", false);
    let dtls_legacy = legacy || cisco_client_compat || cisco_svc_client_compat;
    let select_group_by_url = by_url || cisco_client_compat;
    for (name, was) in [("dtls-legacy", legacy), ("select-group-by-url", by_url)] {
        if cisco_client_compat && !was {
            let prefix = reader.prefix();
            reader.report.note(format!(
                "{prefix}the cisco-client-compat option implies {name} = true; enabling"
            ));
        }
    }
    let mut host = Host {
        name: reader.vhost.map(str::to_owned),
        auth: auth(reader),
        accounting: accounting(reader),
        cert_user_oid: reader.text("cert-user-oid"),
        cert_group_oid: reader.text("cert-group-oid"),
        cert_rebind: reader.parsed_last("cert-rebind", cert_rebind).unwrap_or_default(),
        username_case: reader
            .parsed_last("username-case", username_case)
            .unwrap_or_default(),
        ca_cert: reader.path("ca-cert"),
        crl: reader.path("crl"),
        select_group: select_groups(reader),
        auto_select_group: reader.flag("auto-select-group", false),
        default_select_group: reader.text("default-select-group"),
        select_group_by_url,
        cookie_timeout: reader.seconds_or("cookie-timeout", 300),
        persistent_cookies: reader.flag("persistent-cookies", false),
        kkdcp: reader.parsed_list("kkdcp", Kkdcp::parse),
        listen_host_is_dyndns: reader.flag("listen-host-is-dyndns", false),
        server_cert: reader.list("server-cert").into_iter().map(Into::into).collect(),
        server_key: reader.list("server-key"),
        pin_file: reader.path("pin-file"),
        srk_pin_file: reader.path("srk-pin-file"),
        key_pin: reader.text("key-pin").map(Into::into),
        srk_pin: reader.text("srk-pin").map(Into::into),
        dh_params: reader.path("dh-params"),
        ocsp_response: reader.path("ocsp-response"),
        tls_priorities: tls_priorities(reader, cisco_client_compat),
        match_tls_dtls_ciphers: reader.flag("match-tls-dtls-ciphers", false),
        dtls_legacy,
        cisco_client_compat,
        host_reports: reader.flag("host-reports", false),
        cisco_svc_client_compat,
        rekey_time: reader.seconds("rekey-time", Some(Duration::from_secs(172_800))),
        rekey_method: reader
            .parsed_last("rekey-method", rekey_method)
            .unwrap_or_default(),
        switch_to_tcp_timeout: reader.seconds("switch-to-tcp-timeout", Some(Duration::from_secs(25))),
        output_buffer: reader.limit("output-buffer", None),
        compression: reader.flag("compression", false),
        no_compress_limit: reader.number_or("no-compress-limit", 256).max(COMPRESS_LIMIT_MIN),
        banner: reader.text("banner"),
        pre_login_banner: reader.text("pre-login-banner"),
        default_domain: reader.text("default-domain"),
        proxy_url: reader.text("proxy-url"),
        custom_header: reader.list("custom-header"),
        included_http_headers: reader.list("included-http-headers"),
        predictable_ips: reader.flag("predictable-ips", true),
        append_routes: reader.flag("append-routes", false),
        expose_iroutes: reader.flag("expose-iroutes", false),
        config_per_user: reader.path("config-per-user"),
        config_per_group: reader.path("config-per-group"),
        default_user_config: reader.path("default-user-config"),
        default_group_config: reader.path("default-group-config"),
        camouflage: reader.flag("camouflage", false),
        camouflage_secret: reader.text("camouflage_secret").map(Into::into),
        camouflage_realm: reader.text("camouflage_realm"),
        session: session::read(reader, &SessionSettings::default()),
    };
    // A profile may be named as it is seen below chroot-dir.
    if let (Some(profile), Some(root)) = (&mut host.session.user_profile, &global.chroot_dir)
        && !system.can_open(profile)
    {
        let inside = root.join(profile.strip_prefix("/").unwrap_or(profile));
        if system.can_open(&inside) {
            *profile = inside;
        }
    }
    files(reader, system);
    check(reader, &host, global.udp_port, system);
    note_methods(reader, &host);
    host
}

/// Files without which the server does not start, and those that it does without.
fn files(reader: &mut Reader<'_>, system: &dyn System) {
    for name in ["server-cert", "server-key", "pin-file", "srk-pin-file"] {
        for value in reader.values.all(name) {
            // Keys may be on tokens.
            let is_url = ["pkcs11:", "tpmkey:"]
                .iter()
                .any(|scheme| value.text.starts_with(scheme));
            if !is_url && !system.is_file(Path::new(&value.text)) {
                let message = format!("cannot open file '{}'", value.text);
                reader.report.fail_at(value.line, message);
            }
        }
    }
    if let Some(value) = reader.values.last("ocsp-response")
        && !system.is_file(Path::new(&value.text))
    {
        let text = format!(
            "option 'ocsp-response' in line {}: cannot open file '{}'",
            value.line, value.text
        );
        reader.report.warn_at(value.line, text);
    }
}

/// The checks of §19 that concern one host.
fn check(reader: &mut Reader<'_>, host: &Host, udp_port: Option<u16>, system: &dyn System) {
    if host.server_cert.is_empty() || host.server_key.is_empty() {
        let message = "the 'server-cert' and 'server-key' configuration options must be specified!";
        reader.fail(Check::CertificateAndKey, None, message);
    }
    if host.server_cert.len() != host.server_key.len() {
        let message = "the specified number of keys doesn't match the certificates";
        reader.fail(Check::KeyCount, reader.line("server-key"), message);
    }
    let no_network = |name| reader.values.last(name).is_none();
    if no_network("ipv4-network") && no_network("ipv6-network") {
        reader.fail(
            Check::Network,
            None,
            "no ipv4-network or ipv6-network options set.",
        );
    }
    if host
        .banner
        .as_ref()
        .is_some_and(|banner| banner.len() > BANNER_MAX)
    {
        reader.fail(Check::Banner, reader.line("banner"), "banner size is too long");
    }
    if host.auth.certificate_request(host.cisco_client_compat) != CertificateRequest::No {
        match host.cert_user_oid.as_deref() {
            None => {
                let message = "a certificate is requested by the option 'cert-user-oid' is not set";
                reader.fail(Check::CertUserOidMissing, None, message);
            }
            Some("SAN(rfc822name)") => {}
            Some(oid) if oid.starts_with(|c: char| c.is_ascii_digit()) => {}
            Some(_) => {
                let message = "the option 'cert-user-oid' has a unsupported value";
                reader.fail(Check::CertUserOid, reader.line("cert-user-oid"), message);
            }
        }
    }
    if let Some(profile) = host
        .session
        .user_profile
        .as_ref()
        .filter(|path| !system.can_open(path))
    {
        let message = format!("cannot open file '{}'", profile.display());
        reader.fail(Check::UserProfile, reader.line("user-profile"), message);
    }
    if host.cisco_svc_client_compat && udp_port.is_some_and(|port| port != 443) {
        let message = " cisco-svc-client-compat option requires udp-port = 443";
        reader.fail(Check::SvcPort, reader.line("cisco-svc-client-compat"), message);
    }
    if host.camouflage && host.camouflage_secret.as_ref().is_none_or(SecretString::is_empty) {
        let message = "'camouflage' requires 'camouflage_secret'";
        reader.fail(Check::CamouflageSecret, reader.line("camouflage"), message);
    }
    if host.match_tls_dtls_ciphers && (host.dtls_legacy || host.cisco_client_compat) {
        let message = "'match-tls-dtls-ciphers' cannot be applied when 'dtls-legacy' or \
                       'cisco-client-compat' is on";
        reader.fail(
            Check::MatchCiphers,
            reader.line("match-tls-dtls-ciphers"),
            message,
        );
    }
    if host.config_comes_from_radius() && (host.config_per_user.is_some() || host.config_per_group.is_some())
    {
        let message = "specified config-per-user or config-per-group but supplemental config is 'radius'";
        let line = reader.line("config-per-user").or(reader.line("config-per-group"));
        reader.fail(Check::RadiusGroupConfig, line, message);
    }
}

impl Host {
    /// The folder with the files of address pools that RADIUS names, if there is one.
    pub(crate) fn address_pools(&self) -> Option<&Path> {
        let mut methods = self.auth.required.iter().chain(&self.auth.alternatives);
        methods.find_map(|method| match method {
            AuthMethod::Radius(radius) => radius.pools.as_deref(),
            _ => None,
        })
    }

    /// True when per-user settings come from RADIUS attributes instead of files.
    pub fn config_comes_from_radius(&self) -> bool {
        let mut methods = self.auth.required.iter().chain(&self.auth.alternatives);
        methods.any(|method| matches!(method, AuthMethod::Radius(radius) if radius.groupconfig))
            || matches!(&self.accounting, Some(AccountingMethod::Radius(radius)) if radius.groupconfig)
    }
}

fn auth(reader: &mut Reader<'_>) -> AuthConfig {
    let label = reader.label();
    let labelled = |value: &str| {
        AuthMethod::parse(value).map_err(|message| match message.strip_prefix("unknown or unsupported") {
            Some(_) => format!("{label}{message}"),
            None => message,
        })
    };
    let mut config = AuthConfig::default();
    for value in reader.values.all("auth") {
        match labelled(&value.text) {
            Err(message) => reader.report.fail_at(value.line, message),
            Ok(method) => {
                let has_other = config
                    .required
                    .iter()
                    .any(|other| *other != AuthMethod::Certificate);
                if method != AuthMethod::Certificate && has_other {
                    let message = format!(
                        "{label}you cannot mix multiple authentication methods of {} type",
                        method.name()
                    );
                    reader.report.fail_at(value.line, message);
                }
                config.required.push(method);
            }
        }
    }
    for value in reader.values.all("enable-auth") {
        match labelled(&value.text) {
            Err(message) => reader.report.fail_at(value.line, message),
            Ok(method) => {
                let mut others = config.required.iter().chain(&config.alternatives);
                if method.is_password() && others.any(AuthMethod::is_password) {
                    let message = format!("{label}you cannot mix multiple password authentication methods");
                    reader.report.fail_at(value.line, message);
                }
                if config.required == [AuthMethod::Certificate] && method == AuthMethod::Certificate {
                    let message = format!("{label}'certificate' is already enabled by 'auth'");
                    reader.report.warn_at(value.line, message);
                }
                if config.alternatives.len() + 2 > AUTH_METHODS_MAX {
                    let message = format!(
                        "{label}you cannot enable more than {AUTH_METHODS_MAX} authentication methods"
                    );
                    reader.report.fail_at(value.line, message);
                }
                config.alternatives.push(method);
            }
        }
    }
    if config.required.is_empty() {
        let message = if config.alternatives.is_empty() {
            "the 'auth' configuration option was not specified!"
        } else {
            "no authentication method was specified!"
        };
        reader.fail(Check::Auth, None, message);
    }
    config
}

fn accounting(reader: &mut Reader<'_>) -> Option<AccountingMethod> {
    let label = reader.label();
    reader.parsed_last("acct", |value| {
        AccountingMethod::parse(value).map_err(|message| {
            match message.strip_prefix("unknown or unsupported") {
                Some(_) => format!("{label}{message}"),
                None => message,
            }
        })
    })
}

/// Says how users log in, as ocserv does at every start.
fn note_methods(reader: &mut Reader<'_>, host: &Host) {
    let label = reader.label();
    let primary: Vec<_> = host.auth.required.iter().map(AuthMethod::name).collect();
    if !primary.is_empty() {
        let primary = primary.join("+");
        reader.report.note(format!(
            "{label}setting '{primary}' as primary authentication method"
        ));
    }
    for method in &host.auth.alternatives {
        let name = method.name();
        reader
            .report
            .note(format!("{label}enabling '{name}' as authentication method"));
    }
    let prefix = reader.prefix();
    if let Some(accounting) = &host.accounting {
        let name = accounting.name();
        reader
            .report
            .note(format!("{prefix}setting '{name}' as accounting method"));
    }
    let source = if host.config_comes_from_radius() {
        "radius"
    } else {
        "file"
    };
    reader.report.note(format!(
        "{prefix}setting '{source}' as supplemental config option"
    ));
}

fn cert_rebind(text: &str) -> Result<CertRebind, String> {
    match text {
        "key" => Ok(CertRebind::Key),
        "name" => Ok(CertRebind::Name),
        _ => Err(format!(
            "unknown value '{text}' of cert-rebind; use 'key' or 'name'"
        )),
    }
}

fn username_case(text: &str) -> Result<UsernameCase, String> {
    match text {
        "keep" => Ok(UsernameCase::Keep),
        "lower" => Ok(UsernameCase::Lower),
        _ => Err(format!(
            "unknown value '{text}' of username-case; use 'keep' or 'lower'"
        )),
    }
}

fn rekey_method(text: &str) -> Result<RekeyMethod, String> {
    match text {
        "ssl" => Ok(RekeyMethod::Ssl),
        "new-tunnel" => Ok(RekeyMethod::NewTunnel),
        _ => Err(format!("unknown rekey method '{text}'")),
    }
}

fn tls_priorities(reader: &mut Reader<'_>, cisco_client_compat: bool) -> TlsPriorities {
    let configured = reader.parsed_last("tls-priorities", TlsPriorities::parse);
    if let (Some(priorities), Some(line)) = (&configured, reader.line("tls-priorities"))
        && !priorities.not_honoured().is_empty()
    {
        let names = priorities.not_honoured().join(", ");
        let text = format!("option 'tls-priorities' in line {line}: this server does not have: {names}");
        reader.report.warn_at(line, text);
    }
    configured.unwrap_or_else(|| TlsPriorities::default_for(cisco_client_compat))
}

/// `NAME` or `NAME[Label]`. Names that no user can have are left out with a warning.
fn select_groups(reader: &mut Reader<'_>) -> Vec<SelectGroup> {
    let mut groups = Vec::new();
    for value in reader.values.all("select-group") {
        let (name, label) = match value.text.split_once('[') {
            Some((_, "")) => {
                let message = format!("error parsing {}", value.text);
                reader.report.fail_at(value.line, message);
                continue;
            }
            Some((name, label)) => (name.trim(), label.trim_end_matches(']').trim()),
            None => (value.text.as_str(), value.text.as_str()),
        };
        match GroupName::new(name) {
            _ if groups.len() == SELECT_GROUPS_MAX => {
                reader.report.fail_at(
                    value.line,
                    format!("more than {SELECT_GROUPS_MAX} 'select-group' options"),
                );
                break;
            }
            Ok(group) => groups.push(SelectGroup {
                name: group,
                label: label.to_owned(),
            }),
            Err(NameError::TooLong) => reader.report.warn_at(
                value.line,
                format!(
                    "'select-group' entry '{name}' is 64 bytes or longer and exceeds the maximum \
                     supported group name length (63); it can never be selected"
                ),
            ),
            Err(error) => {
                reader.report.warn_at(
                    value.line,
                    format!("'select-group' entry '{name}' is ignored: {error}"),
                );
            }
        }
    }
    groups
}

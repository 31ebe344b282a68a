//! Whole files: grammar in context, notes, virtual hosts.

use std::time::Duration;

use crate::common::{BASE, config, parse, texts, with};
use culvert_server_config::{AuthMethod, Compression, Config, NetPriority, RekeyMethod, SyslogFacility};
use proptest::prelude::*;

#[test]
fn the_smallest_file_gives_the_defaults_of_ocserv() {
    let (config, notes) = parse(BASE).expect("valid");
    assert_eq!(
        texts(&notes),
        [
            "note: vhost:default: setting 'plain' as primary authentication method",
            "note: setting 'file' as supplemental config option",
        ]
    );
    let global = &config.global;
    assert_eq!(
        (global.tcp_port, global.udp_port, global.log_level),
        (443, None, 2)
    );
    assert_eq!(global.syslog_facility, SyslogFacility::Daemon);
    assert_eq!(global.occtl_socket_file.to_str(), Some("/var/run/occtl.socket"));
    assert_eq!(global.ban.max_score, Some(80));
    assert_eq!(global.ban.time, Duration::from_secs(300));
    assert_eq!(global.auth_timeout, Some(Duration::from_secs(240)));
    assert!(global.dtls_psk && global.use_utmp && global.limit_worker_memory && !global.use_occtl);
    let host = &config.default_host;
    assert_eq!(host.display_name(), "default");
    assert_eq!(host.cookie_timeout, Duration::from_secs(300));
    assert_eq!(host.rekey_time, Some(Duration::from_secs(172_800)));
    assert_eq!(host.rekey_method, RekeyMethod::NewTunnel);
    assert_eq!(host.no_compress_limit, 256);
    assert!(host.predictable_ips && host.dtls_legacy && !host.compression);
    assert_eq!(host.tls_priorities.as_str(), "NORMAL:%SERVER_PRECEDENCE:%COMPAT");
    let session = &host.session;
    assert_eq!(session.dpd_for(false), Some(Duration::from_secs(90)));
    assert_eq!(session.dpd_for(true), Some(Duration::from_secs(1800)));
    assert_eq!(session.keepalive, Some(Duration::from_secs(32400)));
    assert_eq!(session.idle_timeout_for(true), None);
    assert_eq!(session.ipv6_subnet_prefix, 128);
    assert_eq!(
        session.ipv4_network.map(|net| net.to_string()).as_deref(),
        Some("10.99.1.0/24")
    );
}

#[test]
fn scalars_take_the_last_line_and_lists_all_lines() {
    let config = config(
        "dpd = 60\ndpd : \"40\"\ndns = 8.8.8.8\n  \"8.8.4.4\"\nipv6-dns = fd00::53\n\
         route = 10.0.0.0/8\n 192.168.0.0/255.255.0.0 # office\nsplit-dns = a.example\nsplit-dns = b.example\n\
         rekey-method = ssl\nmobile-dpd = 0\nmobile-idle-timeout = 0\nidle-timeout = 5",
    );
    let session = &config.default_host.session;
    assert_eq!(session.dpd_for(false), Some(Duration::from_secs(40)));
    assert_eq!(session.dpd_for(true), Some(Duration::from_secs(40)));
    assert_eq!(session.idle_timeout_for(false), Some(Duration::from_secs(5)));
    assert_eq!(session.idle_timeout_for(true), None);
    assert_eq!(
        session.dns.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["8.8.8.8", "8.8.4.4", "fd00::53"]
    );
    let routes: Vec<_> = session
        .routes
        .nets
        .iter()
        .map(culvert_server_config::route_text)
        .collect();
    assert_eq!(routes, ["10.0.0.0/255.0.0.0", "192.168.0.0/255.255.0.0"]);
    assert_eq!(session.split_dns, ["a.example", "b.example"]);
    assert_eq!(config.default_host.rekey_method, RekeyMethod::Ssl);
}

#[test]
fn raw_headers_keep_quotes_and_trailing_blanks() {
    let config = config("included-http-headers = \"X-A: b\"  \ncustom-header = \"X-My: 1\" ");
    assert_eq!(config.default_host.included_http_headers, ["\"X-A: b\"  "]);
    assert_eq!(config.default_host.custom_header, ["X-My: 1"]);
}

#[test]
fn values_with_grammars_of_their_own() {
    let config = config(
        "net-priority = 0x1f\nsyslog-facility = LOCAL3\ncompression-algo-priority = oc-lz4:80,lzs:90\n\
         select-group = staff\nselect-group = ops[The operators]\nipv6-network = fd99::5/64\n\
         ipv6-subnet-prefix = 112\nrx-data-per-sec = 40999\ntx-data-per-sec = 999\nmax-same-clients = 0\n\
         max-ban-score = 0\nrate-limit-ms = 100\nkkdcp = \"/KdcProxy REALM tcp@kdc:88\"",
    );
    let host = &config.default_host;
    assert_eq!(host.session.net_priority, Some(NetPriority::Tos(0x1f)));
    assert_eq!(config.global.syslog_facility, SyslogFacility::Local(3));
    assert_eq!(
        config.global.compression_algo_priority,
        [Compression::Lzs, Compression::OcLz4]
    );
    let groups: Vec<_> = host
        .select_group
        .iter()
        .map(|g| (g.name.as_str(), g.label.as_str()))
        .collect();
    assert_eq!(groups, [("staff", "staff"), ("ops", "The operators")]);
    assert_eq!(
        host.session.ipv6_network.map(|net| net.to_string()).as_deref(),
        Some("fd99::/64")
    );
    assert_eq!(host.session.rx_data_per_sec, Some(40_000));
    assert_eq!(host.session.tx_data_per_sec, None);
    assert_eq!(
        (host.session.max_same_clients, config.global.ban.max_score),
        (None, None)
    );
    assert_eq!(config.global.rate_limit, Some(Duration::from_millis(100)));
    assert_eq!(host.kkdcp.len(), 1);
}

/// As text copied from an indented example.
#[test]
fn an_indented_line_that_looks_like_an_option_is_warned_of() {
    let (config, notes) =
        with("custom-header = A: b\n  banner = hello\n  Banners: none\n\tC: d\n").expect("valid");
    assert_eq!(
        config.default_host.custom_header,
        ["A: b", "banner = hello", "Banners: none", "C: d"]
    );
    let warnings: Vec<_> = texts(&notes)
        .into_iter()
        .filter(|text| text.contains("indented"))
        .collect();
    assert_eq!(
        warnings,
        ["warning: line 9 is indented, so it is another value of 'custom-header', not the option 'banner'"]
    );
}

#[test]
fn doubtful_lines_give_notes_and_warnings_in_their_order() {
    let (config, notes) = with(
        "use-seccomp = true\nuse-dbus = yes\nmin-reauth-time = 5\nalways-require-cert = false\n\
         session-control = true\nbogus = 1\nDPD = 1\ncisco-client-compat = on\ndpd = 10s\nbanner =\niroute = 1\n\
         [foo]\nx = 1\n[]\nkeepalive = -1\nnet-priority = 9\nappend-global-routes = true",
    )
    .expect("valid");
    assert_eq!(
        texts(&notes).iter().take(14).collect::<Vec<_>>(),
        [
            "note: 'use-seccomp' was replaced by 'isolate-workers'",
            "note: 'use-dbus' was replaced by 'use-occtl'",
            "note: 'min-reauth-time' was replaced by 'ban-time'",
            "note: 'always-require-cert' was replaced by 'cisco-client-compat'",
            "warning: the option 'session-control' is deprecated",
            "warning: skipping unknown option 'bogus'",
            "warning: skipping unknown option 'DPD'",
            "warning: option 'cisco-client-compat' in line 15: 'on' is taken as false",
            "warning: option 'dpd' in line 16: '10s' is taken as 10",
            "warning: option 'banner' in line 17 has no value; ignored",
            "warning: skipping unknown option 'iroute'",
            "warning: skipping unknown section 'foo'",
            "warning: option 'keepalive' in line 22: '-1' is taken as 4294967295",
            "warning: option 'net-priority' in line 23: '9' is neither 0 to 6 nor 0xNN; ignored",
        ]
    );
    assert!(config.global.isolate_workers && config.global.use_occtl && config.default_host.append_routes);
    assert_eq!(config.global.ban.time, Duration::from_secs(5));
    assert!(!config.default_host.cisco_client_compat, "a later line counts");
    assert_eq!(config.default_host.banner, None);
    assert_eq!(
        config.default_host.session.keepalive,
        Some(Duration::from_secs(4_294_967_295))
    );
}

#[test]
fn old_names_that_change_nothing() {
    let (config, notes) =
        with("use-seccomp = false\nuse-dbus = false\nalways-require-cert = true").expect("valid");
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(
        !config.global.use_occtl && config.global.isolate_workers,
        "the defaults"
    );
}

#[test]
fn camouflage_needs_a_secret() {
    for secret in ["", "camouflage_secret = \"\"\n"] {
        let error = with(&format!("camouflage = true\n{secret}")).expect_err("no secret");
        assert!(
            error
                .to_string()
                .contains("'camouflage' requires 'camouflage_secret'"),
            "{error}"
        );
    }
    let (config, _) = with("camouflage = true\ncamouflage_secret = x\n").expect("a secret");
    assert!(
        config
            .hosts()
            .all(|host| host.camouflage && host.camouflage_secret.is_some())
    );
}

#[test]
fn cisco_compatibility_implies_other_options() {
    let (config, notes) = with("cisco-client-compat = true\ndtls-legacy = false").expect("valid");
    let notes = texts(&notes);
    for name in ["dtls-legacy", "select-group-by-url"] {
        let note = format!("note: the cisco-client-compat option implies {name} = true; enabling");
        assert!(notes.contains(&note), "{notes:?}");
    }
    let host = &config.default_host;
    assert!(host.dtls_legacy && host.select_group_by_url && !host.tls_priorities.allows_protocol("TLS1.3"));
}

#[test]
fn virtual_hosts_inherit_and_append() {
    let (config, notes) = with(
        "route = 10.0.0.0/8\ndpd = 30\n[vhost: www.example.com ]\nroute = 172.16.0.0/12\n\
         server-cert = /etc/www.pem\n[vhost:Bücher.example]\nauth = certificate\ncert-user-oid = 2.5.4.3\n\
         log-level = 5\n[]\ndpd = 20\nbanner = hi\n[vhost:www.example.com]\ndpd = 7",
    )
    .expect("valid");
    let notes = texts(&notes);
    assert_eq!(
        notes.get(..3),
        Some(
            [
                "note: adding virtual host: www.example.com",
                "note: virtual host name 'Bücher.example' was canonicalized to 'xn--bcher-kva.example'",
                "note: adding virtual host: xn--bcher-kva.example",
            ]
            .map(str::to_owned)
            .as_slice()
        )
    );
    assert!(
        notes.contains(
            &"note: vhost:www.example.com: setting 'file' as supplemental config option".to_owned()
        )
    );
    let [www, books] = config.vhosts.as_slice() else {
        panic!("two hosts, not {}", config.vhosts.len())
    };
    let routes: Vec<_> = www.session.routes.nets.iter().map(ToString::to_string).collect();
    assert_eq!(routes, ["10.0.0.0/8", "172.16.0.0/12"]);
    assert_eq!(www.session.dpd, Some(Duration::from_secs(7)));
    assert_eq!(
        books.session.dpd,
        Some(Duration::from_secs(20)),
        "also what comes later is inherited"
    );
    assert_eq!(books.banner.as_deref(), Some("hi"));
    assert_eq!(
        www.server_cert,
        [std::path::Path::new("/etc/www.pem")],
        "static options replace"
    );
    assert_eq!(books.server_cert, config.default_host.server_cert);
    assert_eq!(www.auth, config.default_host.auth);
    assert_eq!(books.auth.required, [AuthMethod::Certificate]);
    assert_eq!(config.global.log_level, 5, "accepted in a virtual host");

    assert_eq!(
        config.host_for(Some("WWW.example.COM")).display_name(),
        "www.example.com"
    );
    assert_eq!(
        config.host_for(Some("other.example.com")).display_name(),
        "default"
    );
    assert_eq!(config.host_for(None).display_name(), "default");
    assert_eq!(config.hosts().count(), 3);
}

#[test]
fn authentication_methods_are_noted() {
    let (config, notes) = with(
        "auth = certificate\nenable-auth = certificate\nenable-auth = gssapi\ncert-user-oid = 2.5.4.3\n\
         acct = pam",
    )
    .expect("valid");
    let notes = texts(&notes);
    for note in [
        "note: vhost:default: setting 'plain+certificate' as primary authentication method",
        "note: vhost:default: enabling 'certificate' as authentication method",
        "note: vhost:default: enabling 'gssapi' as authentication method",
        "note: setting 'pam' as accounting method",
    ] {
        assert!(notes.contains(&note.to_owned()), "{note} not in {notes:?}");
    }
    assert_eq!(config.default_host.auth.alternatives.len(), 2);
}

#[test]
fn long_group_names_are_warned_about() {
    let (config, notes) = with(&format!("select-group = {}", "a".repeat(64))).expect("valid");
    assert!(config.default_host.select_group.is_empty());
    assert!(
        texts(&notes)
            .iter()
            .any(|note| note.contains("exceeds the maximum supported group name length (63)"))
    );
}

proptest! {
    #[test]
    fn never_panics(more in "([a-z-]{1,12} ?[=:] ?[\"\\[\\]/0-9a-z.:, é-]{0,20}\n|\\[vhost:[a-zé.]{0,5}\\]\n|.{0,20}\n){0,12}") {
        let _ = with(&more);
        let _ = Config::parse(more.as_bytes(), std::path::Path::new("x"));
    }

    #[test]
    fn no_option_panics_on_any_value(
        index in 0..culvert_server_config::table::OPTIONS.len(),
        value in "[\"\\[\\]/0-9a-z.:, é()!=;%+-]{0,24}",
    ) {
        let name = culvert_server_config::table::OPTIONS[index].name;
        let _ = with(&format!("{name} = {value}"));
    }
}

//! Requests that no client makes: over one connection again and again, with others' cookies, frames
//! that are none.

use culvert_lab::{Fixture, Make, PASSWORD, Raw, Server, ServerOptions, USER, World, wait};

use super::SERVER;

/// The texts of all elements of this name, in order.
fn texts<'a>(answer: &'a str, name: &str) -> Vec<&'a str> {
    let (start, end) = (format!("<{name}>"), format!("</{name}>"));
    answer
        .split(&start)
        .skip(1)
        .filter_map(|rest| rest.split(&end).next())
        .collect()
}

#[test]
fn beside_and_in_the_tunnel() {
    let (world, fixture) = (World::new(), Fixture::new());
    let server = Server::start_with(Make::Culvert, &world, &fixture, &SERVER);
    let mut raw = Raw::connect(&world, &fixture, "beside");
    raw.post(
        "ssl-vpn/login.esp",
        &format!("user={USER}&passwd={PASSWORD}&clientos=Linux&computer=pc"),
    );
    raw.wait_for("</jnlp>", 1);
    let cookie = texts(&raw.answer(), "argument")[1].to_owned();
    assert_eq!(cookie.len(), 64, "{cookie}");

    // Every configuration has keys of its own; the one SPI by which the server finds the session stays.
    let session = format!("authcookie={cookie}&portal=VPN&user={USER}&domain=%28empty_domain%29&computer=pc");
    let wanted = format!("{session}&ipv6-support=yes&enc-algo=aes-128-cbc&hmac-algo=sha1,md5");
    for times in 1..=3 {
        raw.post("ssl-vpn/getconfig.esp", &wanted);
        raw.wait_for("</response>", times);
    }
    let answer = raw.answer();
    let spis = texts(&answer, "c2s-spi");
    assert_eq!((spis.len(), spis[0]), (3, spis[2]), "{answer}");
    for secret in ["s2c-spi", "val"] {
        let mut values = texts(&answer, secret);
        let count = values.len();
        values.sort_unstable();
        values.dedup();
        assert!(values.len() == count && count >= 3, "{secret}: {answer}");
    }
    // Neither user nor computer may be others, here or on a connection of its own; the session lives.
    let mut apart = Raw::connect(&world, &fixture, "apart");
    let others = [
        ("user=alice", "user=bob"),
        ("computer=pc", "computer=mine"),
        ("portal=VPN", "portal=x"),
    ];
    for (times, (right, wrong)) in (1..).zip(others) {
        raw.post("ssl-vpn/getconfig.esp", &wanted.replace(right, wrong));
        raw.wait_for("Invalid authentication cookie", times);
    }
    apart.post("ssl-vpn/getconfig.esp", &wanted.replace("=pc", "=mine"));
    apart.wait_for("Invalid authentication cookie", 1);
    let get = format!("GET /ssl-tunnel-connect.sslvpn?user=bob&authcookie={cookie} HTTP/1.1\r\n\r\n");
    let mut apart = Raw::connect(&world, &fixture, "apart-tunnel");
    apart.send(get.as_bytes());
    assert!(apart.closed().contains("HTTP/1.1 502 "));
    for line in [
        "refused a tunnel: user or computer are not those of the session",
        "a cookie of another portal: 'x'",
        "the cookie is of user 'alice' on 'pc', not of 'alice' on 'mine'",
        "the cookie is of user 'alice' on 'pc', not of 'bob' on 'pc'",
    ] {
        wait::until(line, || server.log().contains(line).then_some(()));
    }
    // Another session's cookie is worth nothing on this connection.
    let strange = "0".repeat(64);
    raw.post(
        "ssl-vpn/hipreportcheck.esp",
        &format!("authcookie={strange}&md5=x"),
    );
    raw.wait_for("Invalid authentication cookie", 4);
    raw.post(
        "ssl-vpn/hipreportcheck.esp",
        &format!("authcookie={cookie}&md5=x"),
    );
    raw.wait_for("<hip-report-needed>no<", 1);
    raw.send(format!("GET /ssl-tunnel-connect.sslvpn?authcookie={strange} HTTP/1.1\r\n\r\n").as_bytes());
    assert!(raw.closed().contains("HTTP/1.1 502 "));

    // The cookie alone opens the TLS tunnel. What is no frame ends it, and nothing else.
    let get = format!("GET /ssl-tunnel-connect.sslvpn?user={USER}&authcookie={cookie} HTTP/1.1\r\n\r\n");
    for junk in [
        "1a2b3c4e0800001401000000000000004500001400000000400100000a6301020a630101",
        "1a2b3c4d08060000000000000000000000000000",
        "1a2b3c4d0800ffff0100000000000000",
    ] {
        let mut tunnel = Raw::connect(&world, &fixture, &format!("tunnel-{}", &junk[..12]));
        tunnel.send(get.as_bytes());
        tunnel.wait_for("START_TUNNEL", 1);
        let octets: Vec<u8> = (0..junk.len() / 2)
            .map(|at| u8::from_str_radix(&junk[2 * at..2 * at + 2], 16).unwrap())
            .collect();
        let ends = server
            .log()
            .matches("the TLS channel ends: malformed record")
            .count();
        tunnel.send(&octets);
        tunnel.closed();
        wait::until("a line about the frame", || {
            let now = server
                .log()
                .matches("the TLS channel ends: malformed record")
                .count();
            (now == ends + 1).then_some(())
        });
    }
    // A keepalive comes back as it was.
    let mut tunnel = Raw::connect(&world, &fixture, "tunnel");
    tunnel.send(get.as_bytes());
    tunnel.wait_for("START_TUNNEL", 1);
    tunnel.send(b"\x1a\x2b\x3c\x4d\0\0\0\0\0\0\0\0\0\0\0\0");
    tunnel.wait_until("keepalive", |answer| {
        answer.contains("\x1a+<M\0\0\0\0\0\0\0\0\0\0\0\0")
    });

    let mut last = Raw::connect(&world, &fixture, "logout");
    last.post("ssl-vpn/logout.esp", &session);
    last.wait_for("status=\"success\"", 1);
    last.post("ssl-vpn/getconfig.esp", &wanted);
    last.wait_for("Invalid authentication cookie", 1);
    wait::until("the end of the session", || {
        (world.server.interfaces() == ["lo", "eth0"]).then_some(())
    });
    assert!(!server.log().contains(&cookie), "{}", server.log());

    // Whoever has the cookie may end the session, whatever else he says of it; but that is no success.
    let mut wrong = Raw::connect(&world, &fixture, "wrong-logout");
    wrong.post(
        "ssl-vpn/login.esp",
        &format!("user={USER}&passwd={PASSWORD}&clientos=Linux&computer=pc"),
    );
    wrong.wait_for("</jnlp>", 1);
    let second = texts(&wrong.answer(), "argument")[1].to_owned();
    // Some clients send a long prelogin in its URL, whenever they like.
    let prelogin = format!("ssl-vpn/prelogin.esp?data={}", "e".repeat(1000));
    wrong.post(&prelogin, "");
    wrong.wait_for("</prelogin-response>", 1);
    wrong.post("ssl-vpn/getconfig.esp", &wanted.replace(&cookie, &second));
    wrong.wait_for("<ip-address>", 1);
    wrong.post(&prelogin, "");
    wrong.wait_for("</prelogin-response>", 2);
    wrong.post(
        "ssl-vpn/logout.esp",
        &session.replace(&cookie, &second).replace("=pc", "=mine"),
    );
    assert!(wrong.closed().contains("Invalid authentication cookie"));
    wait::until("the end of the second session", || {
        (world.server.interfaces() == ["lo", "eth0"]).then_some(())
    });
}

/// A client whose connection breaks before it has the answer sends its request again, as the real one does:
/// its one-time code is not refused, and worth nothing to anybody later.
#[test]
fn a_repeated_login_has_the_same_answer() {
    let (world, fixture) = (World::new(), Fixture::new());
    let key = "3132333435363738393031323334353637383930";
    let otp = fixture.write_file("otp", &format!("HOTP {USER} - {key}\n"));
    let passwd = fixture.path("ocpasswd");
    let auth = format!("plain[passwd={},otp={}]", passwd.display(), otp.display());
    let options = ServerOptions {
        overrides: &[("protocols", "anyconnect, globalprotect"), ("auth", &auth)],
        ..SERVER
    };
    let _server = Server::start_with(Make::Culvert, &world, &fixture, &options);
    // Killed as it is, openssl says nothing at its end.
    let said = |body: &str, name: &str, end: &str| {
        let mut raw = Raw::connect(&world, &fixture, name);
        raw.post("ssl-vpn/login.esp", body);
        raw.wait_for(end, 1);
        raw.answer()
    };
    let first = format!("user={USER}&passwd={PASSWORD}&clientos=Linux&computer=pc");
    let challenges = ["first", "again"].map(|name| said(&first, name, "</challenge>"));
    let contexts = challenges.each_ref().map(|answer| texts(answer, "inputstr")[0]);
    assert_eq!(contexts[0], contexts[1]);
    // The first code of the key.
    let second = format!("user={USER}&passwd=755224&inputStr={}&computer=pc", contexts[0]);
    let logins = ["code", "code-again"].map(|name| said(&second, name, "</jnlp>"));
    let cookies = logins.each_ref().map(|answer| texts(answer, "argument")[1]);
    assert_eq!(cookies[0], cookies[1]);
    // Who goes on has got the answer.
    let mut raw = Raw::connect(&world, &fixture, "used");
    raw.post("ssl-vpn/login.esp", &second);
    raw.wait_for("</jnlp>", 1);
    raw.post("ssl-vpn/prelogin.esp", "");
    raw.wait_for("</prelogin-response>", 1);
    let refused = said(&second, "late", "HTTP/1.1 512 ");
    assert!(!refused.contains(cookies[0]), "{refused}");
}

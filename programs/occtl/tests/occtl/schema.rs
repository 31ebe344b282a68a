//! `docs/occtl.schema.json` is what the program prints: every output fits, and no name is there for nothing.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;

const SCHEMA: &str = include_str!("../../../../docs/occtl.schema.json");

/// What of JSON Schema the file uses. `seen` collects the properties that were there, by the place of their
/// definition.
fn check(
    root: &Value,
    schema: &Value,
    value: &Value,
    place: &str,
    seen: &mut BTreeSet<String>,
) -> Result<(), String> {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.strip_prefix("#/$defs/").expect("a local reference");
        return check(root, &root["$defs"][name], value, name, seen);
    }
    if let Some(allowed) = schema["enum"].as_array() {
        let fits = allowed.contains(value);
        return fits
            .then_some(())
            .ok_or(format!("{place}: {value} is none of {allowed:?}"));
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let fitting = choices
            .iter()
            .filter(|choice| check(root, choice, value, place, seen).is_ok());
        return (fitting.count() == 1)
            .then_some(())
            .ok_or(format!("{place}: {value}"));
    }
    match (schema["type"].as_str().expect("a type"), value) {
        ("string", Value::String(_)) => Ok(()),
        ("integer", Value::Number(number)) if number.is_u64() => Ok(()),
        ("array", Value::Array(items)) => items
            .iter()
            .try_for_each(|item| check(root, &schema["items"], item, place, seen)),
        ("object", Value::Object(object)) => {
            for name in schema["required"].as_array().expect("a list") {
                let name = name.as_str().expect("a name");
                object.get(name).ok_or(format!("{place}: no '{name}'"))?;
            }
            for (name, value) in object {
                let property = schema["properties"]
                    .get(name)
                    .ok_or(format!("{place}: '{name}' is unknown"))?;
                seen.insert(format!("{place}: {name}"));
                check(root, property, value, &format!("{place}: {name}"), seen)?;
            }
            Ok(())
        }
        (wanted, _) => Err(format!("{place}: {value} is no {wanted}")),
    }
}

/// All properties of objects, by the place of their definition.
fn properties(schema: &Value) -> BTreeSet<String> {
    let definitions = schema["$defs"].as_object().expect("definitions");
    let of = |(place, definition): (&String, &Value)| {
        let object = if definition["type"] == "array" {
            &definition["items"]
        } else {
            definition
        };
        let names = object["properties"]
            .as_object()
            .map(|map| map.keys().cloned().collect::<Vec<_>>());
        let place = place.clone();
        names
            .unwrap_or_default()
            .into_iter()
            .map(move |name| format!("{place}: {name}"))
    };
    definitions.iter().flat_map(of).collect()
}

/// A connection with everything that one can have.
fn full(at: u64) -> Connection {
    Connection {
        rx_limit: Some(40_000),
        tx_limit: Some(50_000),
        cstp_compression: Some("lzs".into()),
        dtls_compression: Some("oc-lz4".into()),
        iroutes: vec!["172.16.5.0/24".into()],
        ..alice(at)
    }
}

fn session(at: u64, in_use: bool) -> Session {
    Session {
        expires: (!in_use).then_some(at),
        in_use,
        ..super::sessions::session("11N3AjaHY+OwHTXpS4GcLP8w8R4=", "alice", at)
    }
}

#[test]
fn every_output_fits_the_schema() {
    let schema: Value = serde_json::from_str(SCHEMA).expect("valid JSON");
    let now = now();
    let everybody = || {
        let default_route = Connection {
            default_route: true,
            ..test_user(now)
        };
        users(&[
            Connection {
                vhost: "default".into(),
                ..Connection::default()
            },
            test_user(now),
            default_route,
            full(now),
            Connection {
                dtls_cipher: Some("x".into()),
                ..full(now)
            },
        ])
    };
    let bans = vec![
        Reply::Ban(Ban {
            ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            score: 80,
            banned_until: Some(now + 60),
        }),
        Reply::End,
    ];
    let event = |kind| {
        let connection = Connection {
            dtls_cipher: Some("x".into()),
            ..full(now)
        };
        Reply::Event(Box::new(Event { kind, connection }))
    };
    let sessions = vec![
        Reply::Session(Box::new(session(now, true))),
        Reply::Session(Box::new(session(now, false))),
        Reply::End,
    ];
    let status = Reply::Status(Box::new(super::status::status(now)));
    let mut seen = BTreeSet::new();
    for (words, replies) in [
        ("show users", everybody()),
        ("show user", everybody()),
        ("show id", everybody()),
        ("show iroutes", everybody()),
        ("show sessions all", sessions.clone()),
        ("show sessions valid", sessions.clone()),
        ("show session", sessions),
        ("show ip bans", bans.clone()),
        ("show ip ban points", bans),
        ("show status", vec![status]),
        (
            "show events",
            vec![
                Reply::End,
                event(EventKind::Connect),
                event(EventKind::Disconnect {
                    reason: DisconnectReason::IdleTimeout,
                    duration: 5,
                }),
            ],
        ),
    ] {
        let server = Server::answering(vec![replies]);
        let argument = match words {
            "show user" | "show session" => "11N3Aj",
            "show id" => "7",
            _ => "",
        };
        let printed = out(&server.occtl(&format!("--debug -j {words} {argument}")));
        let printed = match printed.split_once("Press 'q' or CTRL+C to quit\n") {
            Some((_, events)) => events.to_owned(),
            None => printed,
        };
        let values = serde_json::Deserializer::from_str(&printed).into_iter::<Value>();
        let mut count = 0;
        for value in values {
            let value = value.unwrap_or_else(|error| panic!("{words}: {error}: {printed}"));
            check(&schema, &schema["$defs"][words], &value, words, &mut seen)
                .unwrap_or_else(|why| panic!("{words}: {why}"));
            count += 1;
        }
        assert!(count > 0, "{words}: {printed}");
    }
    let unused: Vec<String> = properties(&schema).difference(&seen).cloned().collect();
    assert!(unused.is_empty(), "{unused:?}");
}

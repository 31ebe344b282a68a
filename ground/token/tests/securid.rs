//! SecurID tokens against codes of stoken 0.92 (`tests/vectors/securid-ctf-v2.txt`).

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashMap;

use culvert_token::{SecurId, TokenError, UnlockedSecurId};
use proptest::prelude::*;

const VECTORS: &str = include_str!("vectors/securid-ctf-v2.txt");

fn lines(prefix: &str) -> Vec<HashMap<&'static str, &'static str>> {
    let lines = VECTORS.lines().filter_map(|line| line.strip_prefix(prefix));
    lines
        .map(|line| line.split(' ').filter_map(|word| word.split_once('=')).collect())
        .collect()
}

#[test]
fn codes_of_stoken() {
    let vectors = lines("token=");
    assert_eq!(vectors.len(), 9);
    for line in VECTORS.lines().filter(|line| line.starts_with("token=")) {
        let value = |name: &str| {
            let mut words = line.split(' ');
            words
                .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
                .unwrap()
        };
        let token = SecurId::parse(value("token")).unwrap();
        assert!(!token.wants_password() && !token.wants_device_id());
        let token = token.unlock("", &"".into()).unwrap();
        let time: u64 = value("time").parse().unwrap();
        assert_eq!(
            token.code_at(time, &value("pin").into()).unwrap(),
            value("code").into()
        );
        let last_day: u64 = value("expdays").parse::<u64>().unwrap() + 10957;
        assert!(token.is_valid_at(last_day * 86400 + 86399) && !token.is_valid_at((last_day + 1) * 86400));
    }
}

#[test]
fn locked_tokens() {
    let vectors = lines("locked ");
    assert_eq!(vectors.len(), 4);
    let plain =
        SecurId::parse("231644517531463562324616727114310761574474123321537753224173147706126602716753401");
    let plain = plain.unwrap().unlock("", &"".into()).unwrap();
    for vector in vectors {
        let url = VECTORS
            .lines()
            .find(|line| line.contains(vector["token"].split('=').next_back().unwrap()));
        let text = url
            .unwrap()
            .split("token=")
            .nth(1)
            .unwrap()
            .split(' ')
            .next()
            .unwrap();
        let token = SecurId::parse(text).unwrap();
        let given = |name: &str| if vector[name] == "-" { "" } else { vector[name] };
        let (device, password) = (given("devid_normalised"), given("password"));
        assert_eq!(token.wants_device_id(), !device.is_empty());
        assert_eq!(token.wants_password(), !password.is_empty());
        let spelled = device.to_lowercase().replace("0123", "01-23 ");
        let unlocked = token.unlock(&spelled, &password.into()).unwrap();
        let code = |token: &UnlockedSecurId| token.code_at(1_700_000_000, &"1234".into()).unwrap();
        assert_eq!(code(&unlocked), code(&plain));
        let wrong = token.unlock("0123456780", &"wrong".into());
        assert_eq!(wrong.err(), Some(TokenError::SecurIdCredentials));
    }
}

#[test]
fn spellings_and_mistakes() {
    let digits = "264776164514936363764533471463346710742102273270227272044173150076753262716771514";
    let dashes = digits
        .as_bytes()
        .chunks(5)
        .map(|chunk| std::str::from_utf8(chunk).unwrap())
        .collect::<Vec<_>>();
    let token = SecurId::parse(digits).unwrap();
    assert!(SecurId::parse(&dashes.join("-")).unwrap() == token);
    assert!(SecurId::parse(&format!("com.rsa.securid://ctf?ctfData=3D{digits}\n")).unwrap() == token);
    let mistyped = digits.replacen("4776", "4767", 1);
    assert_eq!(SecurId::parse(&mistyped).err(), Some(TokenError::SecurIdCheck));
    for other in ["", "1234", "AwAAJw5y", "<TKNBatch>"] {
        assert_eq!(
            SecurId::parse(other).err(),
            Some(TokenError::SecurIdForm),
            "{other}"
        );
    }
    assert!(UnlockedSecurId::is_pin(&"1234".into()) && UnlockedSecurId::is_pin(&"12345678".into()));
    for bad in ["", "123", "123456789", "12a4"] {
        assert!(!UnlockedSecurId::is_pin(&bad.into()), "{bad}");
    }
}

proptest! {
    #[test]
    fn never_panics(text in ".{0,100}", digits in "[0-9]{81}", time in any::<u64>(), pin in ".{0,9}") {
        let _ = SecurId::parse(&text);
        let _ = SecurId::parse(&digits);
        let token = SecurId::parse(
            "264776164514936363764533471463346710742102273270227272044173150076753262716771514"
        ).unwrap().unlock(&text, &"".into()).unwrap();
        let _ = token.code_at(time, &pin.into());
    }
}

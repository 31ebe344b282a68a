//! Codes and spellings of OATH tokens.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use culvert_token::{Mode, Oath, TokenError};
use proptest::prelude::*;

const VECTORS: &str = include_str!("vectors/oath.txt");
const SECRET: &str = "12345678901234567890";

fn hotp(text: &str) -> Oath {
    Oath::parse(Mode::Hotp, text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn totp(text: &str) -> Oath {
    Oath::parse(Mode::Totp, text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn next(token: &mut Oath) -> String {
    token.next_code().unwrap().expose().to_owned()
}

fn at(token: &Oath, time: u64) -> String {
    token.code_at(time).expose().to_owned()
}

#[test]
fn vectors() {
    let mut checked = 0;
    for line in VECTORS.lines().filter(|line| !line.starts_with('#')) {
        if let Some((before, after)) = line.split_once(" -> ") {
            let unescaped = |text: &str| text.replace("\\n", "\n");
            let mut token = hotp(&unescaped(before));
            next(&mut token);
            assert_eq!(token.to_text().expose(), unescaped(after), "{line}");
        } else {
            let words: Vec<&str> = line.split(' ').collect();
            let value = |name: &str| words.iter().find_map(|word| word.strip_prefix(name));
            let code = words.last().copied();
            let ours = match words[0] {
                "HOTP" => next(&mut hotp(&format!("{SECRET},{}", value("counter=").unwrap()))),
                "TOTP" => {
                    let hash = value("alg=").unwrap();
                    at(
                        &totp(&format!("{hash}:{SECRET}")),
                        value("time=").unwrap().parse().unwrap(),
                    )
                }
                base32 => next(&mut hotp(&format!("{base32},0"))),
            };
            assert_eq!(Some(ours.as_str()), code, "{line}");
        }
        checked += 1;
    }
    assert_eq!(checked, 15);
}

/// RFC 6238 appendix B, of which our six digits are the last ones.
#[test]
fn rfc_6238() {
    let key = |len: usize| SECRET.chars().cycle().take(len).collect::<String>();
    let tokens = [
        totp(&key(20)),
        totp(&format!("sha256:{}", key(32))),
        totp(&format!("SHA512:{}", key(64))),
    ];
    for (time, codes) in [
        (59, ["94287082", "46119246", "90693936"]),
        (1111111109, ["07081804", "68084774", "25091201"]),
        (1234567890, ["89005924", "91819424", "93441116"]),
        (20000000000, ["65353130", "77737706", "47863826"]),
    ] {
        for (token, code) in tokens.iter().zip(codes) {
            assert_eq!(at(token, time), code[2..], "{time}");
        }
    }
}

#[test]
fn spellings_of_one_secret() {
    let expected = at(&totp(SECRET), 59);
    for text in [
        "base32:GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ",
        "base32:gezdgnbvgy3tqojqgezdgnbvgy3tqojq \r\n",
        "0x3132333435363738393031323334353637383930",
        "sha1:0x3132333435363738393031323334353637383930",
        "otpauth://totp/a@b?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=x&digits=6&period=-1",
    ] {
        assert_eq!(at(&totp(text), 59), expected, "{text}");
    }
    assert_eq!(next(&mut hotp("0x1,0")), next(&mut hotp("\u{1},0")));
    // Bits that belong to no octet.
    assert_eq!(
        next(&mut hotp("base32:GEZDGNBVGZ,0")),
        next(&mut hotp("base32:GEZDGNBVGY,0"))
    );
    let eight = totp("otpauth://totp/x?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&digits=8");
    assert_eq!(at(&eight, 59), "94287082");
}

#[test]
fn counters() {
    for (text, counter) in [("k,0x10", 16), ("k,010", 8), ("k,", 0), ("k", 0), ("a,b,5", 5)] {
        assert!(
            hotp(text).to_text().expose().ends_with(&format!(",{counter}")),
            "{text}"
        );
    }
    for text in ["k,x", "k,-1", "k,99999999999999999999"] {
        assert!(Oath::parse(Mode::Hotp, text).is_err(), "{text}");
    }
    let mut last = hotp(&format!("k,{}", i64::MAX));
    assert_eq!(last.next_code(), Err(TokenError::Exhausted));
}

#[test]
fn what_is_written_back_gives_the_next_code() {
    for text in [
        "sha256:base32:GEZDGNBVGY3TQOJQ,3",
        "sha512:0xabc,3",
        "otpauth://hotp/L?issuer=I&algorithm=SHA256&digits=8&period=60&secret=GEZDGNBVGY3TQOJQ&counter=3",
    ] {
        let mut token = hotp(text);
        next(&mut token);
        let mut reread = hotp(token.to_text().expose());
        assert_eq!(next(&mut reread), next(&mut token), "{text}");
    }
    assert_eq!(
        hotp("otpauth://hotp/L?issuer=I&algorithm=SHA256&period=60&secret=GEZDGNBVGY3TQOJQ&counter=3")
            .to_text()
            .expose(),
        "otpauth://hotp/L?secret=GEZDGNBVGY3TQOJQ&counter=3&period=60&algorithm=SHA256&issuer=I\n"
    );
}

const PSKC: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<KeyContainer Version="1.0" Id="exampleID1" xmlns="urn:ietf:params:xml:ns:keyprov:pskc">
  <KeyPackage>
    <DeviceInfo><SerialNo>987654321</SerialNo></DeviceInfo>
    <Key Id="12345678" Algorithm="urn:ietf:params:xml:ns:keyprov:pskc:hotp">
      <AlgorithmParameters><ResponseFormat Length="8" Encoding="DECIMAL"/></AlgorithmParameters>
      <Data>
        <Secret><PlainValue>MTIzNDU2Nzg5MDEyMzQ1Njc4OTA=</PlainValue></Secret>
        <Counter><PlainValue> 7 </PlainValue></Counter>
      </Data>
    </Key>
  </KeyPackage>
  <KeyPackage><Key Algorithm="x"><Data><Counter><PlainValue>1</PlainValue></Counter></Data></Key></KeyPackage>
</KeyContainer>
"#;

#[test]
fn pskc() {
    let mut token = hotp(PSKC);
    let mut plain = hotp(&format!("{SECRET},7"));
    let code = next(&mut token);
    assert_eq!(code.len(), 8);
    assert!(code.ends_with(&next(&mut plain)));
    let written = PSKC.replace("<PlainValue> 7 </PlainValue>", "<PlainValue> 8 </PlainValue>");
    assert_eq!(token.to_text().expose(), written);

    let timed = PSKC
        .replace("pskc:hotp", "pskc:totp")
        .replace("Counter>", "TimeInterval>")
        .replace(" 7 ", "60");
    assert_eq!(totp(&timed).period(), 60);
    assert_eq!(Oath::parse(Mode::Totp, PSKC).err(), Some(TokenError::OtherMode));
    let encrypted = PSKC.replace("PlainValue", "EncryptedValue");
    assert_eq!(
        Oath::parse(Mode::Hotp, &encrypted).err(),
        Some(TokenError::EncryptedPskc)
    );
}

/// Without a counter it is 0, and is there after the first code.
#[test]
fn pskc_without_a_counter() {
    let counter = "<Counter><PlainValue> 7 </PlainValue></Counter>";
    for prefix in ["", "pskc:"] {
        let bare = PSKC.replacen(counter, "", 1);
        let bare = bare.replace("<Secret>", &format!("<{prefix}Secret>"));
        let bare = bare.replace("</Secret>", &format!("</{prefix}Secret>"));
        let mut token = hotp(&bare);
        let first = next(&mut token);
        let written = token.to_text().expose().to_owned();
        let added = format!(
            "</{prefix}Secret><{prefix}Counter><{prefix}PlainValue>1</{prefix}PlainValue></{prefix}Counter>"
        );
        assert!(written.contains(&added), "{written}");
        let mut again = hotp(&written);
        let second = next(&mut again);
        assert_eq!(second, next(&mut token));
        assert!(second != first);
    }
    for nothing in [
        "<PlainValue></PlainValue>",
        "<PlainValue/>",
        "<PlainValue> </PlainValue>",
    ] {
        let empty = PSKC.replacen("<PlainValue> 7 </PlainValue>", nothing, 1);
        assert!(Oath::parse(Mode::Hotp, &empty).is_err(), "{nothing}");
    }
    let empty = PSKC.replace("MTIzNDU2Nzg5MDEyMzQ1Njc4OTA=", "");
    assert!(Oath::parse(Mode::Hotp, &empty).is_err());
}

#[test]
fn what_is_no_secret() {
    for text in [
        "",
        " ",
        "sha256:",
        "0x",
        "0xzz",
        "base32:",
        "otpauth://totp/x",
        "otpauth://totp/x?a=b",
    ] {
        assert!(Oath::parse(Mode::Totp, text).is_err(), "{text}");
    }
    for text in [
        "base32:1",
        "base32:A",
        "base32:AAA",
        "base32:AAAAAA",
        "base32:A1",
        "base32:AA=A",
    ] {
        assert_eq!(
            Oath::parse(Mode::Totp, text).err(),
            Some(TokenError::Base32),
            "{text}"
        );
    }
    for text in ["otpauth://hotp/x?secret=AAAA", "otpauth://steam/x?secret=AAAA"] {
        assert_eq!(Oath::parse(Mode::Totp, text).err(), Some(TokenError::OtherMode));
    }
    for text in ["algorithm=MD5", "digits=5", "digits=99", "counter=x"] {
        assert!(Oath::parse(Mode::Hotp, &format!("otpauth://hotp/x?secret=AAAA&{text}")).is_err());
    }
    assert_eq!(
        format!("{:?}", totp("secret")),
        "Oath { mode: Totp, hash: Sha1, .. }"
    );
}

proptest! {
    #[test]
    fn never_panics(text in ".{0,60}", xml in "(<Key|<Counter>|<PlainValue>|</PlainValue>|>|/>| Algorithm=\"|\"|7|<Data>){0,20}") {
        for mode in [Mode::Totp, Mode::Hotp] {
            for text in [text.clone(), format!("otpauth://hotp/{text}"), format!("<?xml version=\"1.0\"?>{xml}")] {
                if let Ok(mut token) = Oath::parse(mode, &text) {
                    token.code_at(u64::MAX);
                    let _ = token.next_code();
                    token.to_text();
                }
            }
        }
    }

    #[test]
    fn base32_round_trip(key in prop::collection::vec(any::<u8>(), 1..40), counter in 0..u64::MAX / 4) {
        let text = format!("base32:{},{counter}", data_encoding::BASE32.encode(&key));
        let token = hotp(&text);
        let written = token.to_text();
        prop_assert_eq!(written.expose(), text);
    }
}

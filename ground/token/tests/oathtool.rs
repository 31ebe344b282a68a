//! The same codes as another program: `oathtool` of Debian.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::Command;

use culvert_token::{Mode, Oath};

fn oathtool(arguments: &[&str]) -> String {
    let output = Command::new("oathtool")
        .args(arguments)
        .output()
        .expect("oathtool");
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

#[test]
fn codes_agree() {
    for (hash, period, digits, time) in [
        ("SHA1", 30, 6, 1_700_000_000_u64),
        ("SHA1", 60, 8, 1_234_567_890),
        ("SHA256", 30, 7, 59),
        ("SHA512", 45, 8, 20_000_000_000),
    ] {
        let secret = "MFRGGZDFMZTWQ2LKNNWG23TPOA";
        let uri =
            format!("otpauth://totp/x?secret={secret}&algorithm={hash}&period={period}&digits={digits}");
        let token = Oath::parse(Mode::Totp, &uri).unwrap();
        let theirs = oathtool(&[
            &format!("--totp={hash}"),
            "-b",
            secret,
            "-d",
            &digits.to_string(),
            "-s",
            &period.to_string(),
            "-N",
            &format!("@{time}"),
        ]);
        assert_eq!(token.code_at(time).expose(), theirs, "{uri}");
    }
    let mut token = Oath::parse(Mode::Hotp, "0xdeadbeef00,4294967295").unwrap();
    for counter in [4_294_967_295_u64, 4_294_967_296] {
        let theirs = oathtool(&["-c", &counter.to_string(), "deadbeef00"]);
        assert_eq!(token.next_code().unwrap().expose(), theirs, "{counter}");
    }
}

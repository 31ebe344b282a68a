use std::net::SocketAddr;

use culvert_vocab::{Mtu, SecretString, SessionId, UserName};
use proptest::prelude::*;

use super::codec::{Malformed, decode, encode};
use super::fields::{Bytes, SecretText, Text};
use super::messages::*;
use super::pool::PoolToMain;
use super::session::{ClientDescription, Counters};

#[test]
fn bounds_are_part_of_decoding() {
    // What a stranger's encoder would send: the same bytes without our types' checks.
    let text = "x".repeat(513);
    let forged = postcard::to_stdvec(&(0u8, LogLevel::Info, &text)).unwrap();
    assert!(matches!(
        decode::<WorkerToMain>(&forged),
        Err(Malformed::Encoding(_))
    ));
    let fine = postcard::to_stdvec(&(0u8, LogLevel::Info, &text[..512])).unwrap();
    assert!(decode::<WorkerToMain>(&fine).is_ok());
    assert!(Text::<3>::new("abcd".to_owned()).is_err());
    assert!(Bytes::<3>::new(vec![0; 4]).is_err());
    assert!(SecretText::<3>::new(SecretString::new("abcd".to_owned())).is_err());
    assert_eq!(Text::<3>::truncated("aää").as_str(), "aä");
}

#[test]
fn an_mtu_out_of_range_is_no_message() {
    let good = encode(&WorkerToMain::SetMtu(Mtu::clamped(1400))).unwrap();
    assert!(decode::<WorkerToMain>(&good).is_ok());
    let forged = postcard::to_stdvec(&(1u8, 20_000u16)).unwrap();
    assert!(matches!(
        decode::<WorkerToMain>(&forged),
        Err(Malformed::Encoding(_))
    ));
}

#[test]
fn trailing_octets_are_refused() {
    let mut bytes = encode(&MainToWorker::Terminate).unwrap().to_vec();
    bytes.push(0);
    assert_eq!(decode::<MainToWorker>(&bytes), Err(Malformed::Trailing(1)));
}

#[test]
fn messages_are_read_back() {
    let login = WorkerToBroker::Login(LoginStart {
        user: Text::truncated("test"),
        password: Some(SecretText::new("secret".into()).unwrap()),
        group: None,
        client: ClientDescription {
            user_agent: Text::truncated("agent"),
            ..ClientDescription::default()
        },
        repeatable: true,
    });
    assert_eq!(decode::<WorkerToBroker>(&encode(&login).unwrap()), Ok(login));
    let reply = BrokerToWorker::Login(LoginReply::Success {
        cookie: SessionId::from_bytes([3; 32]),
        user: UserName::new("test").unwrap(),
        group: None,
        token: None,
    });
    assert_eq!(decode::<BrokerToWorker>(&encode(&reply).unwrap()), Ok(reply));
    let datagram = MainToWorker::Datagram {
        peer: SocketAddr::from(([192, 0, 2, 1], 9)),
        hello: true,
        packet: Bytes::new(vec![22; 100]).unwrap(),
    };
    assert_eq!(decode::<MainToWorker>(&encode(&datagram).unwrap()), Ok(datagram));
}

#[test]
fn secrets_are_not_printed() {
    let answer = WorkerToBroker::LoginAnswer(SecretText::new("hunter2".into()).unwrap());
    assert!(!format!("{answer:?}").contains("hunter2"));
}

proptest! {
    #[test]
    fn no_bytes_make_the_privileged_side_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _any_result = decode::<WorkerToBroker>(&bytes);
        let _any_result = decode::<WorkerToMain>(&bytes);
        let _any_result = decode::<ZygoteToMain>(&bytes);
        let _any_result = decode::<PoolToMain>(&bytes);
    }

    #[test]
    fn every_prefix_of_a_message_is_refused(rx in any::<u64>(), tx in any::<u64>()) {
        let whole = encode(&WorkerToMain::Counters(Counters { rx, tx })).unwrap();
        for length in 0..whole.len() {
            prop_assert!(decode::<WorkerToMain>(&whole[..length]).is_err());
        }
    }
}

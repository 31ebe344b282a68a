//! The client with servers that answer, are silent, or lie.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::{Duration, Instant};

use culvert_radius::{
    Client, Code, Event, MessageAuthenticator, Outcome, Policy, Reply, Request, Server, Transmit,
};
use culvert_vocab::SecretBytes;
use hmac::{Hmac, Mac as _};
use md5::{Digest as _, Md5};

const SECOND: Duration = Duration::from_secs(1);

fn client(servers: usize, message_authenticator: MessageAuthenticator) -> Client {
    client_by(servers, message_authenticator, false)
}

fn client_by(servers: usize, message_authenticator: MessageAuthenticator, connections: bool) -> Client {
    let servers = (0..servers).map(|at| Server {
        name: format!("s{at}"),
        secret: SecretBytes::new(format!("secret{at}").into_bytes()),
    });
    let policy = Policy {
        timeout: SECOND,
        retries: 2,
        dead_time: 60 * SECOND,
        message_authenticator,
        connections,
    };
    Client::new(servers.collect(), policy)
}

fn access() -> Request {
    let mut request = Request::new(Code::Access);
    request.push(1, "alice");
    request.push_password("pw".into());
    request
}

/// A server's reply to a datagram.
fn answer(transmit: &Transmit, code: u8, secret: &str, signed: bool) -> Vec<u8> {
    let mut octets = vec![code, transmit.datagram[1], 0, 20];
    octets.extend(&transmit.datagram[4..20]);
    if signed {
        octets[3] = 38;
        octets.extend([80, 18]);
        octets.extend([0; 16]);
        let mut mac = Hmac::<Md5>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(&octets);
        octets[22..].copy_from_slice(&mac.finalize().into_bytes());
    }
    let hash = Md5::digest([&octets, secret.as_bytes()].concat());
    octets[4..20].copy_from_slice(&hash);
    octets
}

fn events(client: &mut Client) -> Vec<Event> {
    std::iter::from_fn(|| client.poll_event()).collect()
}

fn sent(client: &mut Client) -> Vec<Transmit> {
    std::iter::from_fn(|| client.poll_transmit()).collect()
}

/// Lets time pass until nothing is due before `until`; what was sent, with its time in seconds.
fn pass(client: &mut Client, start: Instant, until: u64) -> Vec<(u64, usize)> {
    let mut list = Vec::new();
    loop {
        for transmit in sent(client) {
            list.push((0, transmit.server));
        }
        match client.poll_timeout() {
            Some(due) if due <= start + Duration::from_secs(until) => {
                client.handle_timeout(due);
                let seconds = (due - start).as_secs();
                for transmit in sent(client) {
                    list.push((seconds, transmit.server));
                }
            }
            _ => return list,
        }
    }
}

#[test]
fn repeated_with_the_same_octets_until_answered() {
    let now = Instant::now();
    let mut client = client(1, MessageAuthenticator::Required);
    let key = client.submit(now, access()).unwrap();
    let first = sent(&mut client);
    client.handle_timeout(now + SECOND);
    let second = sent(&mut client);
    assert_eq!(first, second);
    client.handle_input(
        now + SECOND,
        0,
        first[0].socket,
        &answer(&first[0], 3, "secret0", true),
    );
    assert_eq!(
        events(&mut client),
        [Event::Done(key, Outcome::Reply(Reply::Reject(None)))]
    );
    assert_eq!(client.poll_timeout(), None);
    // The reply to the repetition comes, too.
    client.handle_input(
        now + SECOND,
        0,
        first[0].socket,
        &answer(&first[0], 2, "secret0", true),
    );
    assert!(matches!(&events(&mut client)[..], [Event::Note(0, text)] if text.contains("no request")));
}

#[test]
fn the_next_server_and_the_dead_one() {
    let now = Instant::now();
    let mut client = client(2, MessageAuthenticator::Learned);
    let key = client.submit(now, access()).unwrap();
    // Three transmissions a second apart, then the other server.
    assert_eq!(pass(&mut client, now, 3), [(0, 0), (1, 0), (2, 0), (3, 1)]);
    assert_eq!(events(&mut client), [Event::Dead(0)]);
    client.cancel(key);

    // The next login does not wait for it.
    let later = now + 4 * SECOND;
    client.submit(later, access()).unwrap();
    let transmits = sent(&mut client);
    assert_eq!(transmits.len(), 1);
    assert_eq!(transmits[0].server, 1);
    client.handle_input(later, 1, 0, &answer(&transmits[0], 2, "secret1", false));
    assert!(matches!(
        &events(&mut client)[..],
        [Event::Done(_, Outcome::Reply(Reply::Accept(_)))]
    ));

    // It is asked for its status, and its answer brings it back.
    client.handle_timeout(now + 8 * SECOND);
    let probe = sent(&mut client);
    assert_eq!((probe[0].server, probe[0].datagram[0]), (0, 12));
    client.handle_input(
        now + 9 * SECOND,
        0,
        probe[0].socket,
        &answer(&probe[0], 2, "secret0", true),
    );
    assert_eq!(events(&mut client), [Event::Alive(0)]);
    client.submit(now + 9 * SECOND, access()).unwrap();
    assert_eq!(sent(&mut client)[0].server, 0);
}

#[test]
fn a_dead_server_has_another_chance_when_its_time_is_over() {
    let now = Instant::now();
    let mut client = client(2, MessageAuthenticator::Learned);
    let key = client.submit(now, access()).unwrap();
    pass(&mut client, now, 3);
    client.cancel(key);
    // The probes go on, then end.
    let probes = pass(&mut client, now, 200);
    assert!(
        probes.len() >= 10 && probes.iter().all(|(at, server)| *server == 0 && *at <= 63),
        "{probes:?}"
    );
    assert_eq!(client.poll_timeout(), None);
    client.submit(now + 64 * SECOND, access()).unwrap();
    assert_eq!(sent(&mut client)[0].server, 0);
}

#[test]
fn nobody_answers() {
    let now = Instant::now();
    let mut client = client(2, MessageAuthenticator::Learned);
    let key = client.submit(now, access()).unwrap();
    let other = client.submit(now, access()).unwrap();
    let list = pass(&mut client, now, 6);
    for server in 0..2 {
        let count = list.iter().filter(|(_, other)| *other == server).count();
        assert_eq!(count, 6, "three transmissions of both requests: {list:?}");
    }
    let done: Vec<_> = events(&mut client)
        .into_iter()
        .filter(|event| matches!(event, Event::Done(..)))
        .collect();
    let none = |key| Event::Done(key, Outcome::NoAnswer);
    assert_eq!(done, [none(key), none(other)]);
    // Everybody is dead: they are asked all the same.
    client.submit(now + 7 * SECOND, access()).unwrap();
    assert_eq!(sent(&mut client).last().unwrap().server, 0);
}

#[test]
fn a_refusal_moves_all_requests() {
    let now = Instant::now();
    let mut client = client(2, MessageAuthenticator::Learned);
    client.submit(now, access()).unwrap();
    client.submit(now, access()).unwrap();
    sent(&mut client);
    client.handle_refused(now, 0);
    let moved: Vec<usize> = sent(&mut client).iter().map(|transmit| transmit.server).collect();
    assert_eq!(moved, [1, 1]);

    // Alone it may be starting.
    let mut client = self::client(1, MessageAuthenticator::Learned);
    client.submit(now, access()).unwrap();
    client.handle_refused(now, 0);
    assert_eq!(pass(&mut client, now, 2), [(0, 0), (1, 0), (2, 0)]);
}

#[test]
fn message_authenticators_are_learned_and_then_required() {
    let now = Instant::now();
    let mut client = client(1, MessageAuthenticator::Learned);
    for (signed, taken) in [(false, true), (true, true), (false, false)] {
        let key = client.submit(now, access()).unwrap();
        let transmit = sent(&mut client).remove(0);
        client.handle_input(now, 0, transmit.socket, &answer(&transmit, 3, "secret0", signed));
        let done = events(&mut client)
            .iter()
            .any(|event| matches!(event, Event::Done(..)));
        assert_eq!(done, taken, "signed: {signed}");
        client.cancel(key);
    }
}

#[test]
fn lies_change_nothing() {
    let now = Instant::now();
    let mut client = client(1, MessageAuthenticator::Learned);
    client.submit(now, access()).unwrap();
    let transmit = sent(&mut client).remove(0);
    let good = answer(&transmit, 2, "secret0", true);
    let wrong_secret = answer(&transmit, 2, "other", true);
    let mut wrong_id = good.clone();
    wrong_id[1] = wrong_id[1].wrapping_add(1);
    let short = good[..good.len() - 1].to_vec();
    for lie in [wrong_secret, wrong_id, short, Vec::new()] {
        client.handle_input(now, 0, transmit.socket, &lie);
        assert!(
            events(&mut client)
                .iter()
                .all(|event| matches!(event, Event::Note(..)))
        );
    }
    // Another socket, another server: not the one that was asked.
    client.handle_input(now, 0, transmit.socket + 1, &good);
    client.handle_input(now, 1, transmit.socket, &good);
    events(&mut client);
    client.handle_input(now, 0, transmit.socket, &good);
    assert!(matches!(&events(&mut client)[..], [Event::Done(..)]));
}

#[test]
fn bounded() {
    let now = Instant::now();
    let mut client = client(1, MessageAuthenticator::Learned);
    for _ in 0..8 * 256 {
        client.submit(now, access()).unwrap();
    }
    assert!(client.submit(now, access()).is_err());
    let mut slots: Vec<_> = sent(&mut client)
        .iter()
        .map(|transmit| (transmit.socket, transmit.datagram[1]))
        .collect();
    slots.sort_unstable();
    slots.dedup();
    assert_eq!(slots.len(), 8 * 256, "no identifier twice on a socket");
    for _ in 0..1000 {
        client.handle_input(now, 0, 0, &[1, 2, 3]);
    }
    assert!(events(&mut client).len() <= 32);
}

/// What goes over a connection is sent once, and again when the connection ends or is not made.
#[test]
fn connections_lose_nothing_but_themselves() {
    let now = Instant::now();
    let mut client = client_by(2, MessageAuthenticator::Learned, true);
    let key = client.submit(now, access()).unwrap();
    // The time of three transmissions, then the other server.
    assert_eq!(pass(&mut client, now, 3), [(0, 0), (3, 1)]);
    assert_eq!(events(&mut client), [Event::Dead(0)]);
    let later = now + 4 * SECOND;
    for _ in 0..2 {
        client.handle_closed(later, 1, 0);
        let again = sent(&mut client);
        assert_eq!((again.len(), again[0].server, again[0].socket), (1, 1, 0));
    }
    // Another connection is none of its business; a third end is one too many.
    client.handle_closed(later, 1, 1);
    assert!(sent(&mut client).is_empty());
    client.handle_closed(later, 1, 0);
    assert_eq!(
        events(&mut client),
        [Event::Dead(1), Event::Done(key, Outcome::NoAnswer)]
    );
    client.handle_closed(later, 1, 0);
    client.handle_closed(later, 7, 0);
    assert!(events(&mut client).is_empty());

    // Alone it may be starting: it is tried again as often as configured.
    let mut client = client_by(1, MessageAuthenticator::Learned, true);
    let key = client.submit(now, access()).unwrap();
    assert_eq!(sent(&mut client).len(), 1);
    for seconds in 1..=2 {
        client.handle_refused(now, 0);
        client.handle_timeout(now + seconds * SECOND);
        let requests = sent(&mut client).into_iter().filter(|sent| sent.datagram[0] == 1);
        assert_eq!(requests.count(), 1, "after {seconds} s");
    }
    client.handle_refused(now + 2 * SECOND, 0);
    client.handle_timeout(now + 2 * SECOND);
    assert!(events(&mut client).contains(&Event::Done(key, Outcome::NoAnswer)));
}

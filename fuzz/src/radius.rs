use std::time::{Duration, Instant};

use culvert_radius::{Client, Code, MessageAuthenticator, Packet, Policy, Request, Server};
use culvert_vocab::SecretBytes;

/// What comes from a server: first as it is, then as a reply to a request with the right identifier,
/// and once more with verified attributes.
pub(crate) fn replies(data: &[u8]) {
    let server = Server {
        name: "server".into(),
        secret: SecretBytes::new(b"testing123".to_vec()),
    };
    let policy = Policy {
        timeout: Duration::from_secs(1),
        retries: 1,
        dead_time: Duration::from_secs(10),
        message_authenticator: MessageAuthenticator::Learned,
        connections: data.first().is_some_and(|code| code % 2 == 0),
    };
    let now = Instant::now();
    let mut client = Client::new(vec![server.clone()], policy);
    let submitted = client.submit(now, Request::new(Code::Access));
    assert!(submitted.is_ok());
    client.handle_input(now, 0, 0, data);
    let Some(sent) = client.poll_transmit() else {
        return;
    };
    let mut reply = data.to_vec();
    if let (Some(to), Some(from)) = (reply.get_mut(1), sent.datagram.get(1)) {
        *to = *from;
    }
    client.handle_input(now, 0, sent.socket, &reply);
    while client.poll_event().is_some() {}
    if let Ok(packet) = Packet::parse(data) {
        let profile = culvert_radius::Profile::read(&packet);
        let (groups, _) = profile.groups(';', true);
        assert!(groups.len() <= culvert_vocab::GROUPS_MAX);
    }
}

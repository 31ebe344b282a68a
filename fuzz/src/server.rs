//! What the server's own parts say to each other, and administrators to it: after a break-in the octets
//! of a worker are those of an attacker.

use culvert_control::frame::{FrameBuffer, REPLY_MAX, REQUEST_MAX};
use culvert_control::messages::{Reply, Request};
use culvert_password_file::PasswordFile;
use culvert_server::ipc::messages::{WorkerToBroker, WorkerToMain};
use culvert_server::ipc::{decode, encode};
use culvert_server::proxy_header::{self, Progress};

/// The privilege boundary: whatever is accepted can be written, and means the same then.
pub(crate) fn worker_messages(data: &[u8]) {
    if let Ok(message) = decode::<WorkerToBroker>(data) {
        let bytes = encode(&message).unwrap_or_default();
        assert!(decode::<WorkerToBroker>(&bytes).is_ok());
    }
    if let Ok(message) = decode::<WorkerToMain>(data) {
        let bytes = encode(&message).unwrap_or_default();
        assert!(decode::<WorkerToMain>(&bytes).is_ok());
    }
}

/// Both directions of the control socket, in pieces of the length that the first octet says.
pub(crate) fn control_messages(data: &[u8]) {
    let Some((&length, data)) = data.split_first() else {
        return;
    };
    let mut requests = FrameBuffer::new(REQUEST_MAX);
    let mut replies = FrameBuffer::new(REPLY_MAX);
    for piece in data.chunks(usize::from(length).max(1)) {
        requests.extend(piece);
        while let Ok(Some(_)) = requests.next_message::<Request>() {}
        replies.extend(piece);
        while let Ok(Some(_)) = replies.next_message::<Reply>() {}
    }
}

/// The file of `ocpasswd`; each user can be looked up, no password is computed.
pub(crate) fn password_file(data: &[u8]) {
    let file = PasswordFile::parse(data);
    let _ = file.groups();
    for line in data.split(|octet| *octet == b'\n') {
        let name = line.split(|octet| *octet == b':').next().unwrap_or_default();
        let _ = file
            .account(&String::from_utf8_lossy(name))
            .map(|account| account.credential());
    }
}

/// Most octets of a PROXY header.
const PROXY_HEADER_MAX: usize = 16 + 520;

/// The header of a proxy, read from a stream as main does: no octet beyond what surely belongs to it.
pub(crate) fn proxy_header(data: &[u8]) {
    let mut taken = 0;
    while let Some(seen) = data.get(..taken) {
        match proxy_header::parse(seen) {
            Ok(Progress::More(more)) => {
                assert!(more > 0, "it would be asked for ever");
                taken += more;
            }
            Ok(Progress::Done(_)) | Err(_) => break,
        }
    }
    assert!(taken <= PROXY_HEADER_MAX);
}

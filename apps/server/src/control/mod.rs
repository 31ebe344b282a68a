//! The control socket of `occtl`, in main (`specs/server-tools.md` §3.12).
//!
//! It is equivalent to root: only root (or the user whose process this is) may speak, one bounded
//! request per connection. What a request means is main's business ([`ControlRequest`]); this
//! module owns the socket file, credentials, framing, bounds and slow listeners.

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use culvert_control::frame::{self, FrameBuffer, REPLY_MAX, REQUEST_MAX};
use culvert_control::messages::{Reply, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::log;

/// Connections served at a time, event listeners included.
const CONNECTIONS: usize = 64;
/// Time to send a request.
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// Time in which a client must take something or main must say something.
const REPLY_TIME: Duration = Duration::from_secs(30);
/// Events that may wait for a listener; a slower one is disconnected.
const EVENTS_WAITING: usize = 1024;
/// `srwx--x--x`
const MODE: u32 = 0o711;

/// A request of `occtl` with the way back. Main sends the frames of the answer in order and drops
/// `reply` at its end; for [`Request::Events`] it keeps `reply` as long as it can be sent to.
#[derive(Debug)]
pub(crate) struct ControlRequest {
    /// What is asked for.
    pub(crate) request: Request,
    /// Where the answer goes. Never blocks.
    pub(crate) reply: UnboundedSender<Reply>,
}

/// The socket file, removed when dropped.
#[derive(Debug)]
pub(crate) struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    inode: (u64, u64),
}

impl ControlSocket {
    /// Makes the socket at `path` with mode 0711, in place of one that an earlier
    /// server left behind. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// The path exists and is not a socket, or cannot be made.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        match std::fs::symlink_metadata(path) {
            Ok(metadata) if !metadata.file_type().is_socket() => {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "the path exists and is not a socket",
                ));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        // Made under another name, so that nobody ever sees it with the wrong mode.
        let mut fresh = path.as_os_str().to_owned();
        fresh.push(format!(".{}", std::process::id()));
        let fresh = PathBuf::from(fresh);
        match std::fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&fresh)?;
        let placed = place(&fresh, path);
        if placed.is_err() {
            let _gone = std::fs::remove_file(&fresh);
        }
        Ok(Self {
            listener,
            path: path.to_owned(),
            inode: placed?,
        })
    }

    /// Serves until `requests` is closed. Must run inside a `tokio::task::LocalSet`.
    pub(crate) async fn serve(self, requests: mpsc::Sender<ControlRequest>) {
        let slots = std::sync::Arc::new(Semaphore::new(CONNECTIONS));
        let path: Rc<str> = self.path.to_string_lossy().into();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = requests.closed() => return,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    log::write(log::Level::Warning, &format!("main: {path}: {error}"));
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(slot) = std::sync::Arc::clone(&slots).try_acquire_owned() else {
                log::write(
                    log::Level::Warning,
                    &format!("main: {path}: too many connections"),
                );
                continue;
            };
            if !is_allowed(&stream) {
                log::write(
                    log::Level::Notice,
                    &format!("main: {path}: refused a connection that is not root's"),
                );
                continue;
            }
            tokio::task::spawn_local(converse(stream, requests.clone(), slot));
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.inode);
        if ours {
            let _gone = std::fs::remove_file(&self.path);
        }
    }
}

/// Gives the fresh socket its mode, owner and name.
fn place(fresh: &Path, path: &Path) -> io::Result<(u64, u64)> {
    std::fs::set_permissions(fresh, std::fs::Permissions::from_mode(MODE))?;
    let metadata = std::fs::symlink_metadata(fresh)?;
    std::fs::rename(fresh, path)?;
    Ok((metadata.dev(), metadata.ino()))
}

fn is_allowed(stream: &UnixStream) -> bool {
    stream
        .peer_cred()
        .is_ok_and(|peer| may_speak(peer.uid(), culvert_sys::user::effective_uid()))
}

/// Root, and the user of a server that is not root's.
fn may_speak(peer: u32, server: u32) -> bool {
    peer == 0 || peer == server
}

async fn converse(
    mut stream: UnixStream,
    requests: mpsc::Sender<ControlRequest>,
    _slot: OwnedSemaphorePermit,
) {
    let request = match timeout(REQUEST_TIME, read_request(&mut stream)).await {
        Ok(Ok(Some(request))) => request,
        Ok(Ok(None)) | Err(_) => return,
        Ok(Err(error)) => {
            log::write(log::Level::Notice, &format!("main: control socket: {error}"));
            return;
        }
    };
    let events = request == Request::Events;
    let (reply, replies) = mpsc::unbounded_channel();
    if requests.send(ControlRequest { request, reply }).await.is_err() {
        return;
    }
    if let Err(error) = answer(&mut stream, replies, events).await {
        log::write(log::Level::Debug, &format!("main: control socket: {error}"));
    }
}

async fn read_request(stream: &mut UnixStream) -> io::Result<Option<Request>> {
    let mut frames = FrameBuffer::new(REQUEST_MAX);
    let mut chunk = [0; 1024];
    loop {
        let count = stream.read(&mut chunk).await?;
        if count == 0 {
            return Ok(None);
        }
        frames.extend(chunk.get(..count).unwrap_or_default());
        if let Some(request) = frames.next_message().map_err(io::Error::other)? {
            return Ok(Some(request));
        }
    }
}

/// Writes replies until main has no more, or the client has gone. What the client has not taken
/// yet waits here; the list of an answer may be long, but a listener has to keep up with events.
async fn answer(
    stream: &mut UnixStream,
    mut replies: UnboundedReceiver<Reply>,
    events: bool,
) -> io::Result<()> {
    let (mut input, mut output) = stream.split();
    let mut waiting: VecDeque<Vec<u8>> = VecDeque::new();
    let mut written = 0;
    // Known once the list before the events is complete.
    let mut most_waiting = usize::MAX;
    let mut complete = false;
    let mut ignored = [0; 64];
    while !(complete && waiting.is_empty()) {
        let next = waiting
            .front()
            .and_then(|bytes| bytes.get(written..))
            .unwrap_or_default();
        tokio::select! {
            reply = replies.recv(), if !complete => match reply {
                Some(reply) => {
                    if waiting.len() >= most_waiting {
                        return Err(io::Error::other("an event listener is too slow"));
                    }
                    waiting.push_back(frame::encode(&reply, REPLY_MAX).map_err(io::Error::other)?);
                    if events && reply == Reply::End {
                        most_waiting = waiting.len() + EVENTS_WAITING;
                    }
                }
                None => complete = true,
            },
            count = output.write(next), if !next.is_empty() => {
                written += count?;
                if waiting.front().is_some_and(|bytes| written >= bytes.len()) {
                    waiting.pop_front();
                    written = 0;
                }
            }
            read = input.read(&mut ignored) => if read? == 0 {
                return Ok(());
            },
            () = tokio::time::sleep(REPLY_TIME), if !next.is_empty() => {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::future::Future;

    use culvert_control::messages::Status;

    use super::*;

    fn run<F: Future>(test: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, test)
    }

    /// A server at a fresh path; requests arrive at the receiver.
    fn serve(directory: &Path) -> (PathBuf, mpsc::Receiver<ControlRequest>) {
        let path = directory.join("occtl.socket");
        let (sender, receiver) = mpsc::channel(4);
        tokio::task::spawn_local(ControlSocket::bind(&path).unwrap().serve(sender));
        (path, receiver)
    }

    async fn ask(path: &Path, request: &Request) -> UnixStream {
        let mut stream = UnixStream::connect(path).await.unwrap();
        stream
            .write_all(&frame::encode(request, REQUEST_MAX).unwrap())
            .await
            .unwrap();
        stream
    }

    async fn next(stream: &mut UnixStream, frames: &mut FrameBuffer) -> Option<Reply> {
        let mut chunk = [0; 4096];
        loop {
            if let Some(reply) = frames.next_message().unwrap() {
                return Some(reply);
            }
            match stream.read(&mut chunk).await.unwrap() {
                0 => return None,
                count => frames.extend(&chunk[..count]),
            }
        }
    }

    #[test]
    fn a_request_gets_its_answer_and_the_connection_ends() {
        let directory = tempfile::tempdir().unwrap();
        run(async {
            let (path, mut requests) = serve(directory.path());
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, MODE);
            let mut stream = ask(&path, &Request::Status).await;
            let request = requests.recv().await.unwrap();
            assert_eq!(request.request, Request::Status);
            let status = Reply::Status(Box::new(Status {
                server_pid: 7,
                ..Status::default()
            }));
            request.reply.send(status.clone()).unwrap();
            drop(request);
            let mut frames = FrameBuffer::new(REPLY_MAX);
            assert_eq!(next(&mut stream, &mut frames).await, Some(status));
            assert_eq!(next(&mut stream, &mut frames).await, None);
        });
    }

    #[test]
    fn every_event_listener_gets_every_event() {
        let directory = tempfile::tempdir().unwrap();
        run(async {
            let (path, mut requests) = serve(directory.path());
            let mut listeners = Vec::new();
            let mut replies = Vec::new();
            for _ in 0..3 {
                listeners.push((ask(&path, &Request::Events).await, FrameBuffer::new(REPLY_MAX)));
                replies.push(requests.recv().await.unwrap().reply);
            }
            for reply in &replies {
                reply.send(Reply::End).unwrap();
                reply.send(Reply::Done(true)).unwrap();
            }
            for (stream, frames) in &mut listeners {
                assert_eq!(next(stream, frames).await, Some(Reply::End));
                assert_eq!(next(stream, frames).await, Some(Reply::Done(true)));
            }
            drop(listeners);
            for reply in &replies {
                reply.closed().await;
            }
        });
    }

    #[test]
    fn a_listener_that_does_not_read_is_disconnected() {
        let directory = tempfile::tempdir().unwrap();
        run(async {
            let (path, mut requests) = serve(directory.path());
            let _deaf = ask(&path, &Request::Events).await;
            let reply = requests.recv().await.unwrap().reply;
            reply.send(Reply::End).unwrap();
            while reply.send(Reply::Done(true)).is_ok() {
                tokio::task::yield_now().await;
            }
        });
    }

    #[test]
    fn bad_requests_end_only_their_connection() {
        let directory = tempfile::tempdir().unwrap();
        run(async {
            let (path, mut requests) = serve(directory.path());
            for bytes in [
                &[0xff, 0xff, 0xff, 0xff, 1][..],
                &[1, 0, 0, 0, 0xee],
                &[2, 0, 0, 0, 0, 0],
            ] {
                let mut stream = UnixStream::connect(&path).await.unwrap();
                stream.write_all(bytes).await.unwrap();
                assert_eq!(
                    next(&mut stream, &mut FrameBuffer::new(REPLY_MAX)).await,
                    None,
                    "{bytes:?}"
                );
            }
            let _good = ask(&path, &Request::Users).await;
            assert_eq!(requests.recv().await.unwrap().request, Request::Users);
        });
    }

    #[test]
    fn stale_sockets_are_replaced_and_other_files_are_not() {
        let directory = tempfile::tempdir().unwrap();
        run(async {
            let path = directory.path().join("s");
            std::os::unix::net::UnixListener::bind(&path).unwrap();
            let first = ControlSocket::bind(&path).unwrap();
            let second = ControlSocket::bind(&path).unwrap();
            drop(first);
            assert!(path.exists(), "the file is the second one's");
            drop(second);
            assert_eq!(
                std::fs::read_dir(directory.path()).unwrap().count(),
                0,
                "nothing is left behind"
            );
            std::fs::write(&path, "precious").unwrap();
            assert!(ControlSocket::bind(&path).is_err());
            assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        });
    }

    #[test]
    fn only_root_and_the_own_user_may_speak() {
        assert!(may_speak(0, 0) && may_speak(0, 1000) && may_speak(1000, 1000));
        assert!(!may_speak(1000, 0) && !may_speak(1001, 1000));
    }
}

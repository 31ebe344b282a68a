//! Channels with messages on them: [`Sender`] and [`Receiver`] for the event loops of main and
//! broker, [`Blocking`] for zygote and workers.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use culvert_sys::channel::{self, Channel, MESSAGE_MAX};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use zeroize::{Zeroize, Zeroizing};

use super::codec::{Malformed, decode, encode};
use super::pollable;

/// Most messages that wait for a peer that does not read.
const QUEUE_MAX: usize = 8192;

/// Something that travels on a channel.
pub trait Message: Serialize + DeserializeOwned {
    /// Descriptors that come with this message.
    fn descriptors(&self) -> usize {
        0
    }
}

/// A channel that cannot be used any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// The peer broke the protocol.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The system refused.
    #[error("channel: {0}")]
    Io(#[from] io::Error),
    /// The peer does not read its messages.
    #[error("the peer does not read its messages")]
    Full,
    /// Nothing came before the deadline.
    #[error("no answer in time")]
    Timeout,
}

/// A message that the peer has not taken yet.
type Waiting = (Zeroizing<Vec<u8>>, Vec<OwnedFd>);

struct Shared {
    channel: AsyncFd<Channel>,
    queue: RefCell<VecDeque<Waiting>>,
    more: Notify,
}

/// The sending half. Never blocks; what the peer has not read yet waits in a bounded queue.
#[derive(Clone)]
pub(crate) struct Sender(Rc<Shared>);

/// The receiving half.
pub(crate) struct Receiver(Rc<Shared>);

/// Splits a channel into halves that share its descriptor. Must be called inside a
/// `tokio::task::LocalSet`: a local task writes what had to wait. The descriptor closes when both
/// halves are gone.
///
/// # Errors
/// The descriptor cannot be polled.
pub(crate) fn split(channel: Channel) -> io::Result<(Sender, Receiver)> {
    channel.set_nonblocking(true)?;
    let shared = Rc::new(Shared {
        channel: pollable(channel)?,
        queue: RefCell::new(VecDeque::new()),
        more: Notify::new(),
    });
    Ok((Sender(Rc::clone(&shared)), Receiver(shared)))
}

impl Sender {
    /// Ends the channel now, also when other processes hold copies of the peer's end.
    pub(crate) fn shut_down(&self) {
        let _closed_already = self.0.channel.get_ref().shut_down();
    }

    /// Sends a message with its descriptors.
    ///
    /// # Errors
    /// The message breaks its bounds, the peer is gone, or too much is waiting for it.
    pub(crate) fn send<M: Message>(&self, message: &M, descriptors: Vec<OwnedFd>) -> Result<(), LinkError> {
        check(message, descriptors.len())?;
        let bytes = encode(message)?;
        let mut queue = self.0.queue.borrow_mut();
        if queue.is_empty() {
            match self.0.channel.get_ref().send(&bytes, &borrow(&descriptors)) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        } else if queue.len() >= QUEUE_MAX {
            return Err(LinkError::Full);
        }
        let first = queue.is_empty();
        queue.push_back((bytes, descriptors));
        if first {
            // The task holds no strong reference while it has nothing to write, so that dropping
            // both halves closes the channel.
            tokio::task::spawn_local(flush(Rc::clone(&self.0)));
        }
        Ok(())
    }
}

/// Writes the queue of a channel, then ends.
async fn flush(shared: Rc<Shared>) {
    while let Ok(mut ready) = shared.channel.ready(Interest::WRITABLE).await {
        let mut queue = shared.queue.borrow_mut();
        while let Some((bytes, descriptors)) = queue.front() {
            match shared.channel.get_ref().send(bytes, &borrow(descriptors)) {
                Ok(()) => drop(queue.pop_front()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // The peer is gone: the receiving half says so.
                Err(_) => queue.clear(),
            }
        }
        if queue.is_empty() {
            shared.more.notify_waiters();
            return;
        }
        ready.clear_ready();
    }
}

impl Receiver {
    /// The next message with its descriptors; `None` when the peer has closed its end.
    /// Safe to cancel.
    ///
    /// # Errors
    /// The peer broke the protocol or the channel failed; both end it.
    pub(crate) async fn receive<M: Message>(&mut self) -> Result<Option<(M, Vec<OwnedFd>)>, LinkError> {
        loop {
            let mut ready = self.0.channel.readable().await?;
            match receive(self.0.channel.get_ref(), Channel::receive) {
                Err(LinkError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(LinkError::Io(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Ok(None);
                }
                result => return result,
            }
        }
    }

    /// Waits until everything that was sent has been handed to the system.
    pub(crate) async fn flushed(&self) {
        loop {
            let more = self.0.more.notified();
            if self.0.queue.borrow().is_empty() {
                return;
            }
            more.await;
        }
    }
}

/// A channel used by a process that does one thing at a time.
#[derive(Debug)]
pub(crate) struct Blocking(Channel);

impl Blocking {
    /// Takes a channel.
    pub(crate) fn new(channel: Channel) -> Self {
        Self(channel)
    }

    /// Sends a message with its descriptors, and waits for room.
    ///
    /// # Errors
    /// The message breaks its bounds or the peer is gone.
    pub(crate) fn send<M: Message>(
        &self,
        message: &M,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), LinkError> {
        check(message, descriptors.len())?;
        Ok(self.0.send(&encode(message)?, descriptors)?)
    }

    /// The next message, waiting for it until `deadline` (`None`: for ever); `Ok(None)` when the
    /// peer has closed its end.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub(crate) fn receive<M: Message>(
        &self,
        deadline: Option<Instant>,
    ) -> Result<Option<(M, Vec<OwnedFd>)>, LinkError> {
        let timeout = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // Zero would mean "for ever" to the system.
        self.0
            .set_timeout(timeout.map(|time| time.max(Duration::from_millis(1))))?;
        or_timeout(receive(&self.0, Channel::receive))
    }

    /// The next message if there is one, else [`LinkError::Timeout`]. Never waits.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub(crate) fn receive_now<M: Message>(&self) -> Result<Option<(M, Vec<OwnedFd>)>, LinkError> {
        or_timeout(receive(&self.0, Channel::receive_now))
    }

    /// [`Self::send`], but never waits.
    ///
    /// # Errors
    /// As there, or there is no room.
    pub(crate) fn send_now<M: Message>(
        &self,
        message: &M,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), LinkError> {
        check(message, descriptors.len())?;
        Ok(self.0.send_now(&encode(message)?, descriptors)?)
    }

    /// The channel itself, for an event loop.
    pub(crate) fn into_channel(self) -> Channel {
        self.0
    }
}

impl AsFd for Blocking {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn borrow(descriptors: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    descriptors.iter().map(AsFd::as_fd).collect()
}

fn check<M: Message>(message: &M, found: usize) -> Result<(), Malformed> {
    let expected = message.descriptors();
    if expected == found {
        Ok(())
    } else {
        Err(Malformed::Descriptors { expected, found })
    }
}

/// What a call on a channel that has nothing means to a process that does one thing at a time.
fn or_timeout<T>(result: Result<Option<T>, LinkError>) -> Result<Option<T>, LinkError> {
    match result {
        Err(LinkError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Err(LinkError::Timeout),
        Err(LinkError::Io(error)) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
        result => result,
    }
}

fn receive<M: Message>(
    channel: &Channel,
    call: impl FnOnce(&Channel, &mut [u8]) -> io::Result<Option<channel::Received>>,
) -> Result<Option<(M, Vec<OwnedFd>)>, LinkError> {
    thread_local! {
        /// One buffer per process: a message is decoded before the next one is read.
        static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; MESSAGE_MAX]);
    }
    BUFFER.with_borrow_mut(|buffer| {
        let received = match call(channel, buffer) {
            Ok(Some(received)) => received,
            Ok(None) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(Malformed::Oversize(MESSAGE_MAX).into());
            }
            Err(error) => return Err(error.into()),
        };
        let bytes = buffer.get_mut(..received.len).unwrap_or_default();
        let message = decode::<M>(bytes);
        // Messages carry passwords, cookies and TLS sessions.
        bytes.zeroize();
        let message = message?;
        check(&message, received.descriptors.len())?;
        Ok(Some((message, received.descriptors)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::messages::{ConnectionId, MainToBroker, MainToWorker, WorkerToMain};
    use crate::ipc::session::{CloseReason, Counters};

    fn local(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, test);
    }

    fn closed(id: u64) -> MainToBroker {
        MainToBroker::ConnectionClosed {
            id: ConnectionId(id),
            reason: CloseReason::Unspecified,
            counters: Counters::default(),
        }
    }

    #[test]
    fn a_slow_reader_gets_everything_in_order_and_then_the_end() {
        local(async {
            let (near, far) = Channel::pair().unwrap();
            let (sender, receiver) = split(near).unwrap();
            let mut sent = 0;
            while sender.send(&closed(sent), Vec::new()).is_ok() {
                sent += 1;
            }
            assert!(matches!(
                sender.send(&closed(0), Vec::new()),
                Err(LinkError::Full)
            ));
            let (_, mut reader) = split(far).unwrap();
            for expected in 0..sent {
                let (message, _) = reader.receive::<MainToBroker>().await.unwrap().unwrap();
                assert_eq!(message, closed(expected));
            }
            receiver.flushed().await;
            drop((sender, receiver));
            assert!(reader.receive::<MainToBroker>().await.unwrap().is_none());
        });
    }

    #[test]
    fn descriptors_must_fit_the_message() {
        local(async {
            let (near, far) = Channel::pair().unwrap();
            let (sender, _receiver) = split(near).unwrap();
            let extra: OwnedFd = Channel::pair().unwrap().0.into_fd();
            let refused = sender.send(&closed(1), vec![extra.try_clone().unwrap()]);
            assert!(matches!(
                refused,
                Err(LinkError::Malformed(Malformed::Descriptors {
                    expected: 0,
                    found: 1
                }))
            ));

            let forged = encode(&closed(1)).unwrap();
            let (near, other) = Channel::pair().unwrap();
            near.send(&forged, &[extra.as_fd()]).unwrap();
            let (_, mut reader) = split(other).unwrap();
            let refused = reader.receive::<MainToBroker>().await;
            assert!(matches!(
                refused,
                Err(LinkError::Malformed(Malformed::Descriptors {
                    expected: 0,
                    found: 1
                }))
            ));
            drop(far);
        });
    }

    #[test]
    fn blocking_receive_has_a_deadline() {
        let (near, far) = Channel::pair().unwrap();
        let (near, far) = (Blocking::new(near), Blocking::new(far));
        let soon = Some(Instant::now() + Duration::from_millis(5));
        assert!(matches!(
            near.receive::<MainToWorker>(soon),
            Err(LinkError::Timeout)
        ));
        far.send(&MainToWorker::Terminate, &[]).unwrap();
        assert_eq!(
            near.receive::<MainToWorker>(None).unwrap().unwrap().0,
            MainToWorker::Terminate
        );
        drop(far);
        assert!(near.receive::<WorkerToMain>(None).unwrap().is_none());
    }
}

//! The `occtl` end of the control socket.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::frame::{self, FrameBuffer, FrameError, REPLY_MAX, REQUEST_MAX};
use crate::messages::{Reply, Request};

/// A server that says nothing for this long is considered offline.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No server listens there, or this user may not connect.
    #[error("error connecting to ocserv socket '{}': {}", socket.display(), plain(.source))]
    Connect {
        /// The control socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The server closed the connection or stays silent.
    #[error("could not send message; possibly insufficient permissions or server is offline.")]
    NoAnswer(#[source] io::Error),
    /// The request is too long, or the server is of another version.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// The system's words for an error, without Rust's number behind them.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// One request on its way.
#[derive(Debug)]
pub struct Conversation {
    stream: UnixStream,
    frames: FrameBuffer,
}

impl Conversation {
    /// Connects and sends `request`.
    ///
    /// # Errors
    /// No server, or it does not listen to us.
    pub fn begin(socket: &Path, request: &Request) -> Result<Self, ClientError> {
        let mut stream = UnixStream::connect(socket).map_err(|source| ClientError::Connect {
            socket: socket.to_owned(),
            source,
        })?;
        let frame = frame::encode(request, REQUEST_MAX)?;
        let patience = Some(PATIENCE);
        stream.set_read_timeout(patience).map_err(ClientError::NoAnswer)?;
        stream
            .set_write_timeout(patience)
            .map_err(ClientError::NoAnswer)?;
        stream.write_all(&frame).map_err(ClientError::NoAnswer)?;
        Ok(Self {
            stream,
            frames: FrameBuffer::new(REPLY_MAX),
        })
    }

    /// The next frame; blocks for up to 20 s.
    ///
    /// # Errors
    /// Silence, the end of the connection, or nonsense.
    pub fn reply(&mut self) -> Result<Reply, ClientError> {
        loop {
            if let Some(reply) = self.received()? {
                return Ok(reply);
            }
            self.receive()?;
        }
    }

    /// All entries of a list, as far as `select` wants them.
    ///
    /// # Errors
    /// As [`Conversation::reply`].
    pub fn list<T>(&mut self, select: impl Fn(Reply) -> Option<T>) -> Result<Vec<T>, ClientError> {
        let mut entries = Vec::new();
        loop {
            match self.reply()? {
                Reply::End => return Ok(entries),
                reply => entries.extend(select(reply)),
            }
        }
    }

    /// A frame that has arrived already.
    ///
    /// # Errors
    /// Nonsense.
    pub fn received(&mut self) -> Result<Option<Reply>, ClientError> {
        Ok(self.frames.next_message()?)
    }

    /// Reads once from the socket.
    ///
    /// # Errors
    /// Silence or the end of the connection.
    pub fn receive(&mut self) -> Result<(), ClientError> {
        let mut bytes = [0; 16384];
        match self.stream.read(&mut bytes) {
            Ok(0) => Err(ClientError::NoAnswer(io::ErrorKind::UnexpectedEof.into())),
            Ok(length) => {
                self.frames.extend(bytes.get(..length).unwrap_or_default());
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(ClientError::NoAnswer(error)),
        }
    }
}

impl AsFd for Conversation {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

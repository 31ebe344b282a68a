//! TLS 1.2 and 1.3, sans-IO, in two phases.
//!
//! 1. [`Handshake`] wraps rustls for the handshake and for HTTP. It feeds rustls one whole record
//!    at a time, so that nothing stays inside rustls when the stream is taken over.
//! 2. [`Handshake::into_records`] turns the connection into a [`Sealer`] and an [`Opener`], which
//!    protect records in place, without allocation, and share nothing. [`HandOver`] carries them
//!    to another process.
//!
//! The records of another TLS library go the same way behind [`ForeignSealer`] and [`ForeignOpener`].
//!
//! [`FrameSealer`] and [`FrameOpener`] put the frames of a protocol into those records.
//!
//! The private key may live elsewhere: [`RemoteKey`] is the worker's side of a signature made by
//! the broker, [`PrivateKey`] the broker's, which only signs what TLS asks a server to sign.

#![forbid(unsafe_code)]

mod accept;
mod algorithms;
mod client_proof;
mod config;
mod description;
mod error;
mod finished;
mod framed;
mod halves;
mod hand_over;
mod handshake;
mod opener;
mod private_key;
mod protection;
mod remote_key;
mod sealer;
mod secret_log;
mod signature;
mod signed_message;
mod spki;

pub use accept::{Acceptor, ClientHello};
pub use algorithms::{Algorithms, Cipher, Group, Version};
pub use client_proof::{ClientProof, JudgeClient, MalformedProof, ProvenHandshake, RemoteClientVerifier};
pub use config::{ClientSettings, ServerSettings, server_config};
pub use description::Negotiated;
pub use error::{KeyError, RemoteSignError, TlsError};
pub use framed::{FrameOpener, FrameSealer, Framing};
pub use halves::{ForeignOpener, ForeignSealer, Opener, Sealer};
pub use hand_over::HandOver;
pub use handshake::{CHANNEL_BINDING_LABEL, CHANNEL_BINDING_LEN, Handshake, Records};
pub use opener::Opened;
pub use private_key::{PrivateKey, SignElsewhere};
pub use remote_key::{KeyIndex, RemoteKey, RemoteSign};
pub use sealer::ContentType;

//! Certificates as VPN users have them: X.509 v1, CN-only names, a self-signed leaf as trust
//! anchor, RSA-PSS keys. rustls' own verifier refuses those.
//!
//! - [`Policy`] is the client's check of a server (`specs/client.md` §7): [`Anchors`], the host
//!   name, dates and algorithms give a [`Verdict`]; the application then decides, with [`Pins`] or
//!   by asking the user.
//! - [`check_client_chain`] is a server's check of a client (`specs/server-auth.md` §1.5), with
//!   [`RevocationLists`].
//! - [`CertificateChain`] is a server's own chain, in order and matching its key.
//!
//! Signatures are verified by aws-lc; parsing is x509-parser's.

#![forbid(unsafe_code)]

mod anchors;
mod chain;
mod client;
mod constraints;
mod describe;
mod error;
mod host;
mod ocsp;
mod path;
mod pins;
mod policy;
mod revocation;
mod signature;
mod verdict;

pub use anchors::Anchors;
pub use chain::CertificateChain;
pub use client::{
    ClientRefusal, Usage, check_client_chain, check_client_signature, client_schemes, first_email,
    subject_values,
};
pub use describe::{
    Validity, certificate_text, common_name, spki_of, spki_pin, subject, subjects_of_pem, validity,
};
pub use error::CertError;
pub use host::Host;
pub use ocsp::{OcspError, staple_until};
pub use pins::{PinJudgement, Pins};
pub use policy::{Decide, Policy, PolicySettings, Presented};
pub use revocation::RevocationLists;
pub use signature::{server_end_point, signature_is_by};
pub use verdict::Verdict;

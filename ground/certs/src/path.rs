//! Finds a chain from a server's certificate to an anchor and says what is wrong with it.

use rustls::pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate, X509Version};

use crate::constraints::{allows_names_of, has_unknown_critical};
use crate::signature::{Checked, check_certificate};
use crate::verdict::Problem;
use crate::{Anchors, CertError};

/// Longest chain, leaf included.
const DEPTH_MAX: usize = 8;
/// Most signatures that one check verifies, whatever the peer sends.
const SIGNATURES_MAX: usize = 64;

/// What a check needs to know.
pub(crate) struct PathCheck<'a> {
    pub(crate) anchors: &'a Anchors,
    pub(crate) now: UnixTime,
    pub(crate) allow_sha1: bool,
}

/// Problems of the best chain that was found; empty when there is a good one.
pub(crate) fn problems_of_chain(
    check: &PathCheck<'_>,
    leaf: &X509Certificate<'_>,
    leaf_der: &[u8],
    intermediates: &[CertificateDer<'_>],
) -> Vec<Problem> {
    let pool: Vec<Member<'_>> = intermediates
        .iter()
        .filter_map(|der| Member::parse(der).ok())
        .collect();
    let mut search = Search {
        check,
        leaf,
        pool: &pool,
        signatures: 0,
    };
    search.from(leaf, leaf_der, &[])
}

struct Member<'a> {
    der: &'a [u8],
    certificate: X509Certificate<'a>,
}

impl<'a> Member<'a> {
    fn parse(der: &'a [u8]) -> Result<Self, CertError> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| CertError::Malformed)?;
        Ok(Self { der, certificate })
    }
}

struct Search<'a, 'b> {
    check: &'a PathCheck<'b>,
    leaf: &'a X509Certificate<'a>,
    pool: &'a [Member<'a>],
    signatures: usize,
}

impl Search<'_, '_> {
    /// Problems of the best chain that goes on from `certificate`. `below` holds the certificates
    /// from the leaf to the one before it.
    fn from(&mut self, certificate: &X509Certificate<'_>, der: &[u8], below: &[&[u8]]) -> Vec<Problem> {
        let mut own = self.problems_of(certificate);
        if self.check.anchors.contains(certificate.subject().as_raw(), der) {
            return own;
        }
        let issuer_name = certificate.issuer().as_raw();
        let anchors: Vec<Member<'_>> = self
            .check
            .anchors
            .with_subject(issuer_name)
            .filter_map(|anchor| Member::parse(anchor).ok())
            .collect();
        let pool = self.pool;
        let trusted = anchors.iter().map(|member| (member, true));
        let sent = pool.iter().map(|member| (member, false));
        let path = [below, &[der]].concat();
        let mut best: Option<Vec<Problem>> = None;
        for (member, is_anchor) in trusted.chain(sent) {
            let issuer = &member.certificate;
            if issuer.subject().as_raw() != issuer_name || path.contains(&member.der) {
                continue;
            }
            let Some(mut problems) = self.issued_by(certificate, issuer, below.len(), is_anchor) else {
                break;
            };
            if is_anchor {
                problems.extend(self.problems_of(issuer));
            } else if path.len() + 1 < DEPTH_MAX {
                problems.extend(self.from(issuer, member.der, &path));
            } else {
                problems.push(Problem::SignerNotFound);
            }
            if best.as_ref().is_none_or(|best| rank(&problems) < rank(best)) {
                best = Some(problems);
            }
            if best.as_ref().is_some_and(Vec::is_empty) {
                break;
            }
        }
        own.extend(best.unwrap_or_else(|| vec![Problem::SignerNotFound]));
        own
    }

    /// Problems of `issuer` as the one that signed `certificate`, `None` when the budget is used
    /// up. `below` is the number of certificates between the leaf and `certificate`.
    fn issued_by(
        &mut self,
        certificate: &X509Certificate<'_>,
        issuer: &X509Certificate<'_>,
        below: usize,
        is_anchor: bool,
    ) -> Option<Vec<Problem>> {
        if self.signatures == SIGNATURES_MAX {
            return None;
        }
        self.signatures += 1;
        let mut problems = Vec::new();
        match check_certificate(certificate, issuer.public_key(), self.check.allow_sha1) {
            Checked::Valid => {}
            Checked::Invalid => problems.push(Problem::SignatureFailed),
            Checked::Insecure => problems.push(Problem::InsecureAlgorithm),
        }
        if !may_sign_certificates(issuer, below, is_anchor) {
            problems.push(Problem::SignerNotCa);
        }
        if !allows_names_of(issuer, self.leaf) {
            problems.push(Problem::SignatureFailed);
        }
        Some(problems)
    }

    fn problems_of(&self, certificate: &X509Certificate<'_>) -> Vec<Problem> {
        let now = i64::try_from(self.check.now.as_secs()).unwrap_or(i64::MAX);
        let validity = certificate.validity();
        let mut problems = Vec::new();
        if now < validity.not_before.timestamp() {
            problems.push(Problem::NotYetActivated);
        }
        if now > validity.not_after.timestamp() {
            problems.push(Problem::Expired);
        }
        if has_unknown_critical(certificate) {
            problems.push(Problem::SignatureFailed);
        }
        problems
    }
}

/// A chain that reaches an anchor is better than one that does not; then fewer problems are.
fn rank(problems: &[Problem]) -> (bool, bool, usize) {
    (
        problems.contains(&Problem::SignerNotFound),
        problems.contains(&Problem::SignatureFailed),
        problems.len(),
    )
}

/// RFC 5280 §4.2.1.3, §4.2.1.9; a version 1 certificate can only be a CA when it is an anchor.
fn may_sign_certificates(issuer: &X509Certificate<'_>, below: usize, is_anchor: bool) -> bool {
    let key_usage = match issuer.key_usage() {
        Ok(usage) => usage.is_none_or(|usage| usage.value.key_cert_sign()),
        Err(_) => false,
    };
    let constraints = match issuer.basic_constraints() {
        Ok(Some(constraints)) => {
            constraints.value.ca
                && constraints
                    .value
                    .path_len_constraint
                    .is_none_or(|max| usize::try_from(max).is_ok_and(|max| below <= max))
        }
        Ok(None) => is_anchor && issuer.version() != X509Version::V3,
        Err(_) => false,
    };
    key_usage && constraints
}

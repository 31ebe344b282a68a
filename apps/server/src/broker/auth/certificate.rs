//! Client certificates (`specs/server-auth.md` §1.5): judged here from the handshake itself, never
//! by a worker's word.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use culvert_certs::{
    Anchors, RevocationLists, check_client_chain, check_client_signature, first_email, spki_of, subject,
    subject_values,
};
use culvert_server_config::{CertificateRequest, Host};
use culvert_tls::ClientProof;
use culvert_vocab::{GroupName, UserName};
use rustls::pki_types::UnixTime;
use sha2::{Digest, Sha256};

/// `cert-user-oid` for the first rfc822Name.
const EMAIL: &str = "SAN(rfc822name)";

/// Whom a client's certificate speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::broker) struct Identity {
    /// Who, if the certificate says so in the place that `cert-user-oid` names.
    pub(in crate::broker) user: Result<UserName, String>,
    /// `cert-group-oid`; `None` when it is not set.
    pub(in crate::broker) groups: Option<Vec<GroupName>>,
    /// SHA-256 of the public key.
    pub(in crate::broker) key: [u8; 32],
}

/// The issuers of a host's clients, and where its certificates have their names.
#[derive(Debug)]
pub(in crate::broker) struct Certificates {
    anchors: Anchors,
    revocations: Option<Revocations>,
    user_oid: String,
    group_oid: Option<String>,
}

impl Certificates {
    /// Loads what a host needs (blocking); `None` when it asks for no certificates.
    ///
    /// # Errors
    /// One line for the administrator.
    pub(in crate::broker) fn load(host: &Host) -> Result<Option<Self>, String> {
        if host.auth.certificate_request(host.cisco_client_compat) == CertificateRequest::No {
            return Ok(None);
        }
        let (Some(path), Some(user_oid)) = (&host.ca_cert, &host.cert_user_oid) else {
            return Err("'auth = certificate' needs 'ca-cert' and 'cert-user-oid'".to_owned());
        };
        let mut anchors = Anchors::new();
        let named = |error: String| format!("{}: {error}", path.display());
        let text = std::fs::read(path).map_err(|error| named(error.to_string()))?;
        anchors.add_pem(&text).map_err(|error| named(error.to_string()))?;
        let revocations = host.crl.clone().map(|path| Revocations {
            path,
            state: Mutex::new(None),
        });
        let certificates = Self {
            anchors,
            revocations,
            user_oid: user_oid.clone(),
            group_oid: host.cert_group_oid.clone(),
        };
        certificates.revocations()?;
        Ok(Some(certificates))
    }

    /// Judges what a client has signed; `own` are the signatures made for this connection. Blocks
    /// on the file of revocation lists.
    ///
    /// # Errors
    /// One line for the log.
    pub(in crate::broker) fn judge(&self, proof: &ClientProof, own: &[Vec<u8>]) -> Result<Identity, String> {
        let handshake = proof.handshake().map_err(|error| error.to_string())?;
        let leaf = handshake.chain.first().ok_or("no certificate")?;
        if !own.contains(&handshake.server_signature) {
            return Err("the handshake is not that of this connection".to_owned());
        }
        if !check_client_signature(
            leaf,
            proof.scheme,
            proof.tls13,
            &handshake.signed,
            &proof.signature,
        ) {
            return Err("the client does not have the key of its certificate".to_owned());
        }
        let whose = subject(leaf).map_err(|error| error.to_string())?;
        check_client_chain(
            &self.anchors,
            &*self.revocations()?,
            &handshake.chain,
            UnixTime::now(),
        )
        .map_err(|error| format!("'{whose}': {error}"))?;
        let groups = match &self.group_oid {
            Some(oid) => Some(groups(leaf, oid).map_err(|error| format!("'{whose}': {error}"))?),
            None => None,
        };
        let key = spki_of(leaf).map_err(|error| error.to_string())?;
        Ok(Identity {
            user: self.user(leaf).map_err(|error| format!("'{whose}': {error}")),
            groups,
            key: Sha256::digest(key).into(),
        })
    }

    fn user(&self, leaf: &[u8]) -> Result<UserName, String> {
        let place = &self.user_oid;
        let name = if place == EMAIL {
            first_email(leaf).map_err(|error| error.to_string())?
        } else {
            let mut names = subject_values(leaf, place).map_err(|error| error.to_string())?;
            names.dedup();
            if names.len() > 1 {
                return Err(format!("the certificate has several names in {place}"));
            }
            names.pop()
        };
        let name = name.ok_or_else(|| format!("the certificate has no name in {place}"))?;
        UserName::new(&name).map_err(|error| format!("the name in {place}: {error}"))
    }

    fn revocations(&self) -> Result<Arc<RevocationLists>, String> {
        match &self.revocations {
            Some(revocations) => revocations.current(&self.anchors),
            None => Ok(Arc::default()),
        }
    }
}

fn groups(leaf: &[u8], oid: &str) -> Result<Vec<GroupName>, String> {
    let mut groups = Vec::new();
    for name in subject_values(leaf, oid).map_err(|error| error.to_string())? {
        let group = GroupName::new(&name).map_err(|error| format!("the group in {oid}: {error}"))?;
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    Ok(groups)
}

/// Identity of one state of a file: device, inode, size, time of the last change.
type Stamp = (u64, u64, u64, i64, i64);

/// The file of `crl`, read again when it changes.
#[derive(Debug)]
struct Revocations {
    path: PathBuf,
    state: Mutex<Option<(Stamp, Arc<RevocationLists>)>>,
}

impl Revocations {
    /// While it cannot be read nobody gets in: who was revoked is not known.
    fn current(&self, anchors: &Anchors) -> Result<Arc<RevocationLists>, String> {
        let named = |error: String| format!("{}: {error}", self.path.display());
        let found = std::fs::metadata(&self.path).map_err(|error| named(error.to_string()))?;
        let stamp = (
            found.dev(),
            found.ino(),
            found.size(),
            found.mtime(),
            found.mtime_nsec(),
        );
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, lists)) = state.as_ref()
            && *known == stamp
        {
            return Ok(Arc::clone(lists));
        }
        let text = std::fs::read(&self.path).map_err(|error| named(error.to_string()))?;
        let lists = RevocationLists::read(&text, anchors).map_err(|error| named(error.to_string()))?;
        let lists = Arc::new(lists);
        *state = Some((stamp, Arc::clone(&lists)));
        Ok(lists)
    }
}

//! NT LAN Manager (MS-NLMP): NTLMv2 where the server describes itself, NTLM2 session or NTLMv1
//! where it does not. No signing or sealing follows.

use std::time::{Duration, SystemTime};

use culvert_vocab::SecretString;
use data_encoding::BASE64;
use des::Des;
use des::cipher::{Block, BlockEncrypt, KeyInit};
use hmac::{Hmac, Mac};
use md4::Md4;
use md5::{Digest, Md5};
use zeroize::Zeroizing;

use crate::{Circumstances, Credentials};

const SIGNATURE: &[u8; 8] = b"NTLMSSP\0";
/// Unicode, request target, NTLM, always sign, extended security.
const OFFER: u32 = 0x0008_8205;
/// OEM strings of the reference's answer: `NEGOTIATE_LM_KEY`, NTLM.
const ANSWER: u32 = 0x0000_0182;
const EXTENDED_SECURITY: u32 = 0x0008_0000;
const TARGET_INFO: u32 = 0x0080_0000;
/// Length of the fixed part of the last message.
const HEADER_LEN: u32 = 64;
/// What this host calls itself.
const WORKSTATION: &str = "UNKNOWN";
/// Attribute of the target information: the server's time.
const TIMESTAMP: u16 = 7;
/// Attribute that ends the target information.
const END: u16 = 0;
/// Between the epochs of Windows and UNIX.
const EPOCHS_APART: Duration = Duration::from_secs(11_644_473_600);

/// The first message: what this client can do.
pub(crate) fn negotiate() -> SecretString {
    let mut message = SIGNATURE.to_vec();
    message.extend(1u32.to_le_bytes());
    message.extend(OFFER.to_le_bytes());
    message.extend([0; 16]);
    // Domain and workstation: none, at the end of the message.
    for value in [0u32, 48, 0, 48] {
        message.extend(value.to_le_bytes());
    }
    header(&message)
}

fn header(message: &[u8]) -> SecretString {
    format!("NTLM {}", BASE64.encode(message)).into()
}

/// The server's message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NtlmChallenge {
    flags: u32,
    nonce: [u8; 8],
    target: String,
    /// Attributes of the server; empty when it gives none.
    info: Vec<u8>,
}

impl NtlmChallenge {
    /// Decodes base64 and message; `None` when it is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let message = BASE64.decode(text.as_bytes()).ok()?;
        if !message.starts_with(SIGNATURE) || u32_at(&message, 8)? != 2 {
            return None;
        }
        let flags = u32_at(&message, 20)?;
        let info = match flags & TARGET_INFO {
            0 => Vec::new(),
            _ => field(&message, 40).unwrap_or_default().to_vec(),
        };
        Some(Self {
            flags,
            nonce: message.get(24..32)?.try_into().ok()?,
            // Some servers point to nowhere.
            target: from_utf16(field(&message, 12).unwrap_or_default()),
            info,
        })
    }

    /// True when the server takes nothing better than the responses of the first version.
    pub(crate) fn is_version_1(&self) -> bool {
        self.info.is_empty() && self.flags & EXTENDED_SECURITY == 0
    }

    /// The last message; `None` when a part of it, which may repeat as much of the challenge as its sender
    /// likes, is longer than its length can say.
    pub(crate) fn answer(
        &self,
        credentials: &Credentials,
        circumstances: &Circumstances<'_>,
    ) -> Option<SecretString> {
        let (domain, user) = match credentials.user.split_once('\\') {
            Some((domain, user)) => (domain, user),
            None => (self.target.as_str(), credentials.user.as_str()),
        };
        let mut nonce = [0; 8];
        nonce.copy_from_slice(circumstances.random.first_chunk::<8>().unwrap_or(&[0; 8]));
        let password = credentials.password.expose();
        let (lm, nt) = if !self.info.is_empty() {
            self.version_2(user, domain, password, nonce, circumstances.now)
        } else if self.flags & EXTENDED_SECURITY != 0 {
            self.session(password, nonce)
        } else {
            (
                desl(&lm_hash(password), &self.nonce).to_vec(),
                desl(&nt_hash(password), &self.nonce).to_vec(),
            )
        };
        let mut flags = ANSWER | (self.flags & EXTENDED_SECURITY);
        if !self.info.is_empty() {
            flags |= TARGET_INFO;
        }
        let (domain, user, host) = (utf16(domain), utf16(user), utf16(WORKSTATION));
        let mut end = HEADER_LEN;
        let mut place = |part: &[u8]| {
            let length = u16::try_from(part.len()).ok()?;
            let offset = end;
            end += u32::from(length);
            Some((length, offset))
        };
        // The order of the payload is not that of the fields which point into it.
        let (at_domain, at_user, at_host) = (place(&domain)?, place(&user)?, place(&host)?);
        let (at_lm, at_nt) = (place(&lm)?, place(&nt)?);
        let mut message = Zeroizing::new(SIGNATURE.to_vec());
        message.extend(3u32.to_le_bytes());
        for (length, offset) in [at_lm, at_nt, at_domain, at_user, at_host] {
            message.extend(length.to_le_bytes());
            message.extend(length.to_le_bytes());
            message.extend(offset.to_le_bytes());
        }
        // No session key.
        message.extend([0; 8]);
        message.extend(flags.to_le_bytes());
        for part in [&domain, &user, &host, &lm, &nt] {
            message.extend_from_slice(part);
        }
        Some(header(&message))
    }

    /// NTLM2 session: the nonces of both sides go into the responses (MS-NLMP §3.3.1).
    fn session(&self, password: &str, nonce: [u8; 8]) -> (Vec<u8>, Vec<u8>) {
        let mut lm = nonce.to_vec();
        lm.resize(24, 0);
        let hash = Md5::new().chain_update(self.nonce).chain_update(nonce).finalize();
        let mut both = [0; 8];
        both.copy_from_slice(&hash[..8]);
        (lm, desl(&nt_hash(password), &both).to_vec())
    }

    /// NTLMv2 (MS-NLMP §3.3.2).
    fn version_2(
        &self,
        user: &str,
        domain: &str,
        password: &str,
        nonce: [u8; 8],
        now: SystemTime,
    ) -> (Vec<u8>, Vec<u8>) {
        let name = utf16(&format!("{}{domain}", user.to_uppercase()));
        let key = Zeroizing::new(hmac(nt_hash(password).as_slice(), &[&name]));
        let theirs = attribute(&self.info, TIMESTAMP).and_then(|time| time.try_into().ok());
        let time = theirs.unwrap_or_else(|| windows_time(now));
        let mut blob = vec![1, 1, 0, 0, 0, 0, 0, 0];
        blob.extend(time);
        blob.extend(nonce);
        blob.extend([0; 4]);
        blob.extend_from_slice(&self.info);
        blob.extend([0; 4]);
        let mut nt = hmac(key.as_slice(), &[&self.nonce, &blob]).to_vec();
        nt.extend(&blob);
        // A server that tells its time wants no LM response.
        let lm = if theirs.is_some() {
            vec![0; 24]
        } else {
            let mut lm = hmac(key.as_slice(), &[&self.nonce, &nonce]).to_vec();
            lm.extend(nonce);
            lm
        };
        (lm, nt)
    }
}

fn u32_at(message: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(
        message.get(offset..offset + 4)?.try_into().ok()?,
    ))
}

fn u16_at(message: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_le_bytes(
        message.get(offset..offset + 2)?.try_into().ok()?,
    ))
}

/// What the field at `offset` (length, room, offset) points to.
fn field(message: &[u8], offset: usize) -> Option<&[u8]> {
    let length = usize::from(u16_at(message, offset)?);
    let start = usize::try_from(u32_at(message, offset + 4)?).ok()?;
    message.get(start..start.checked_add(length)?)
}

/// The value of an attribute of the target information.
fn attribute(mut info: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let (id, length) = (u16_at(info, 0)?, usize::from(u16_at(info, 2)?));
        let value = info.get(4..4 + length)?;
        if id == wanted {
            return Some(value);
        }
        if id == END {
            return None;
        }
        info = info.get(4 + length..)?;
    }
}

fn windows_time(now: SystemTime) -> [u8; 8] {
    let since = now.duration_since(SystemTime::UNIX_EPOCH - EPOCHS_APART);
    let ticks = since.unwrap_or_default().as_nanos() / 100;
    (ticks as u64).to_le_bytes()
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn from_utf16(octets: &[u8]) -> String {
    let units = octets
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    char::decode_utf16(units)
        .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    // HMAC takes keys of every length.
    let Ok(mut mac) = <Hmac<Md5> as Mac>::new_from_slice(key) else {
        return [0; 16];
    };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn nt_hash(password: &str) -> Zeroizing<[u8; 16]> {
    Zeroizing::new(Md4::digest(Zeroizing::new(utf16(password))).into())
}

fn lm_hash(password: &str) -> Zeroizing<[u8; 16]> {
    let mut key = Zeroizing::new([0; 14]);
    let upper = Zeroizing::new(password.to_uppercase());
    for (octet, given) in key.iter_mut().zip(upper.bytes()) {
        *octet = given;
    }
    let mut hash = Zeroizing::new([0; 16]);
    for (part, key) in hash.chunks_exact_mut(8).zip(key.chunks_exact(7)) {
        part.copy_from_slice(&des(key, b"KGS!@#$%"));
    }
    hash
}

/// DES with each third of the hash, padded with zeroes.
fn desl(hash: &[u8; 16], data: &[u8; 8]) -> [u8; 24] {
    let mut padded = Zeroizing::new([0; 21]);
    padded[..16].copy_from_slice(hash);
    let mut response = [0; 24];
    for (part, key) in response.chunks_exact_mut(8).zip(padded.chunks_exact(7)) {
        part.copy_from_slice(&des(key, data));
    }
    response
}

/// DES with a key of 56 bits, without their parity.
fn des(key: &[u8], data: &[u8; 8]) -> [u8; 8] {
    let bits = key.iter().fold(0u64, |bits, octet| bits << 8 | u64::from(*octet));
    let mut spread = Zeroizing::new([0; 8]);
    for (index, octet) in spread.iter_mut().enumerate() {
        *octet = ((bits >> (49 - 7 * index)) << 1) as u8;
    }
    let mut block = Block::<Des>::from(*data);
    Des::new(&(*spread).into()).encrypt_block(&mut block);
    block.into()
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    use super::*;

    fn credentials(user: &str, password: &str) -> Credentials {
        Credentials {
            user: user.into(),
            password: password.into(),
        }
    }

    /// `specs/vectors/client/proxy-auth.txt`.
    #[test]
    fn captured_messages() {
        assert_eq!(
            negotiate().expose(),
            "NTLM TlRMTVNTUAABAAAABYIIAAAAAAAAAAAAAAAAAAAAAAAAAAAAMAAAAAAAAAAwAAAA"
        );
        let challenge = NtlmChallenge::parse(
            "TlRMTVNTUAACAAAABgAGADgAAAAFgokCASNFZ4mrze8AAAAAAAAAAAAAAAA+AAAABQEoCgAAAA9EAE8ATQA=",
        )
        .expect("a challenge");
        assert_eq!(challenge.target, "DOM");
        let mut random = [0; 32];
        random[..8].copy_from_slice(&HEXLOWER.decode(b"76b8d23d48141fcd").unwrap());
        let circumstances = Circumstances {
            method: "CONNECT",
            uri: "10.77.0.1:4443",
            random,
            now: SystemTime::UNIX_EPOCH,
        };
        assert_eq!(
            challenge
                .answer(&credentials("DOM\\user", "SecREt01"), &circumstances)
                .expect("short parts")
                .expose(),
            "NTLM TlRMTVNTUAADAAAAGAAYAFwAAAAYABgAdAAAAAYABgBAAAAACAAIAEYAAAAOAA4ATgAAAAAAAAAAAAAAggEIAEQATwBNAHUAcwBlAHIA\
             VQBOAEsATgBPAFcATgB2uNI9SBQfzQAAAAAAAAAAAAAAAAAAAADnG8i8vDc3z8Komv3TLjZ9ouNHccPbyDs="
        );
    }

    const SERVER_NONCE: [u8; 8] = [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef];

    /// MS-NLMP §4.2.2 to §4.2.4: user `User`, domain `Domain`, password `Password`.
    #[test]
    fn examples_of_the_specification() {
        assert_eq!(
            HEXLOWER.encode(&*nt_hash("Password")),
            "a4f49c406510bdcab6824ee7c30fd852"
        );
        assert_eq!(
            HEXLOWER.encode(&*lm_hash("Password")),
            "e52cac67419a9a224a3b108f3fa6cb6d"
        );
        assert_eq!(
            HEXLOWER.encode(&desl(&nt_hash("Password"), &SERVER_NONCE)),
            "67c43011f30298a2ad35ece64f16331c44bdbed927841f94"
        );
        assert_eq!(
            HEXLOWER.encode(&desl(&lm_hash("Password"), &SERVER_NONCE)),
            "98def7b87f88aa5dafe2df779688a172def11c7d5ccdef13"
        );
        let mut info = Vec::new();
        for (id, text) in [(2u16, "Domain"), (1, "Server")] {
            let value = utf16(text);
            info.extend(id.to_le_bytes());
            info.extend((value.len() as u16).to_le_bytes());
            info.extend(value);
        }
        info.extend([0; 4]);
        let challenge = NtlmChallenge {
            flags: EXTENDED_SECURITY | TARGET_INFO,
            nonce: SERVER_NONCE,
            target: "Server".into(),
            info,
        };
        let (_, session) = challenge.session("Password", [0xaa; 8]);
        assert_eq!(
            HEXLOWER.encode(&session),
            "7537f803ae367128ca458204bde7caf81e97ed2683267232"
        );
        // Its time is zero, that of Windows.
        let zero = SystemTime::UNIX_EPOCH - EPOCHS_APART;
        let (lm, nt) = challenge.version_2("User", "Domain", "Password", [0xaa; 8], zero);
        assert_eq!(
            HEXLOWER.encode(&lm),
            "86c35097ac9cec102554764a57cccc19aaaaaaaaaaaaaaaa"
        );
        assert_eq!(HEXLOWER.encode(&nt[..16]), "68cd0ab851e51c96aabc927bebef6a1c");
    }

    /// What the field at `offset` points to.
    fn pointed(message: &[u8], offset: usize) -> &[u8] {
        field(message, offset).expect("a field that points into the message")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        /// However much a server says of itself: each field of the answer points to what it is for, or there
        /// is no answer.
        #[test]
        fn fields_point_to_their_parts(
            info_len in prop_oneof![0usize..200, 65400usize..65600],
            target in prop_oneof![0usize..20, 32700usize..32800],
            user in prop_oneof![0usize..20, 32700usize..32800],
        ) {
            let challenge = NtlmChallenge {
                flags: EXTENDED_SECURITY | TARGET_INFO,
                nonce: SERVER_NONCE,
                target: "t".repeat(target),
                info: vec![1; info_len],
            };
            let circumstances = Circumstances {
                method: "GET",
                uri: "/",
                random: [0xaa; 32],
                now: SystemTime::UNIX_EPOCH,
            };
            let user = "u".repeat(user);
            let answer = challenge.answer(&credentials(&user, "p"), &circumstances);
            let nt_len = if info_len == 0 { 24 } else { 16 + 28 + info_len + 4 };
            let longest = nt_len.max(2 * target).max(2 * user.len());
            prop_assert_eq!(answer.is_some(), longest <= usize::from(u16::MAX));
            if let Some(answer) = answer {
                let message = answer.expose().strip_prefix("NTLM ").expect("a scheme");
                let message = BASE64.decode(message.as_bytes()).expect("base64");
                prop_assert_eq!(pointed(&message, 12).len(), 24);
                let nt = pointed(&message, 20);
                prop_assert_eq!(nt.len(), nt_len);
                prop_assert!(info_len == 0 || nt[44..44 + info_len] == challenge.info);
                prop_assert_eq!(pointed(&message, 28), utf16(&challenge.target));
                prop_assert_eq!(pointed(&message, 36), utf16(&user));
                prop_assert_eq!(pointed(&message, 44), utf16(WORKSTATION));
            }
        }
    }

    #[test]
    fn attributes() {
        let info = [2, 0, 2, 0, 9, 9, 7, 0, 1, 0, 5, 0, 0, 0, 0];
        assert_eq!(attribute(&info, TIMESTAMP), Some(&[5][..]));
        assert_eq!(attribute(&info, 3), None);
        assert_eq!(attribute(&info[..5], TIMESTAMP), None);
    }
}

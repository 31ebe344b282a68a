//! AES-CBC and 3DES-CBC with HMAC: MAC-then-encrypt (RFC 5246 §6.2.3.2) and encrypt-then-MAC (RFC 7366).

use std::ops::Range;

use aes::cipher::generic_array::GenericArray;
use aes::cipher::inout::InOutBuf;
use aes::cipher::{BlockDecryptMut, BlockEncryptMut, InnerIvInit, KeyInit};
use aes::{Aes128, Aes256};
use culvert_record::{OpenError, SealError};
use des::TdesEde3;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq, ConstantTimeGreater, ConstantTimeLess};

use super::RecordHeader;
use super::mac::{MAX_MAC, Mac};
use crate::suite::MacHash;

/// Most octets of a block and of the IV.
const MAX_BLOCK: usize = 16;
/// Most octets of padding, its length octet included.
const MAX_PADDING: usize = 256;

/// Keys of a CBC suite in one direction.
pub(crate) struct Cbc {
    cipher: BlockCipher,
    mac: Mac,
    encrypt_then_mac: bool,
}

enum BlockCipher {
    Aes128(Box<Aes128>),
    Aes256(Box<Aes256>),
    TripleDes(Box<TdesEde3>),
}

impl Cbc {
    /// `None` when a key has the wrong length.
    pub(crate) fn new(hash: MacHash, key: &[u8], mac_key: &[u8], encrypt_then_mac: bool) -> Option<Self> {
        let cipher = match key.len() {
            16 => BlockCipher::Aes128(Box::new(Aes128::new_from_slice(key).ok()?)),
            24 => BlockCipher::TripleDes(Box::new(TdesEde3::new_from_slice(key).ok()?)),
            _ => BlockCipher::Aes256(Box::new(Aes256::new_from_slice(key).ok()?)),
        };
        (mac_key.len() == hash.len()).then(|| Self {
            cipher,
            mac: Mac::new(hash, mac_key),
            encrypt_then_mac,
        })
    }

    /// Octets of a block and of the IV.
    pub(crate) fn block(&self) -> usize {
        match self.cipher {
            BlockCipher::Aes128(_) | BlockCipher::Aes256(_) => 16,
            BlockCipher::TripleDes(_) => 8,
        }
    }

    /// Most octets after the content.
    pub(crate) fn tailroom(&self) -> usize {
        self.mac.len() + self.block()
    }

    /// Octets of the fragment for `len` octets of content.
    pub(crate) fn sealed_len(&self, len: usize) -> usize {
        let (mac_len, block) = (self.mac.len(), self.block());
        if self.encrypt_then_mac {
            block + (len / block + 1) * block + mac_len
        } else {
            block + ((len + mac_len) / block + 1) * block
        }
    }

    /// Seals `fragment` = room for the IV, `len` octets of content, room for MAC and padding.
    pub(crate) fn seal(
        &self,
        header: &RecordHeader,
        fragment: &mut [u8],
        len: u16,
    ) -> Result<usize, SealError> {
        let mut iv = [0; MAX_BLOCK];
        let iv = &mut iv[..self.block()];
        // Without unpredictable IVs the key must not be used any more.
        aws_lc_rs::rand::fill(iv).map_err(|_| SealError::Exhausted)?;
        let block = iv.len();
        let content_len = usize::from(len);
        let mac_len = self.mac.len();
        let sealed_len = self.sealed_len(content_len);
        let fragment = fragment.get_mut(..sealed_len).ok_or(SealError::Buffer)?;
        fragment[..block].copy_from_slice(iv);
        let mut content_end = block + content_len;
        let mut padding_end = sealed_len - mac_len;
        if !self.encrypt_then_mac {
            let mac = self
                .mac
                .compute(&header.additional_data(len), &fragment[block..content_end]);
            fragment[content_end..content_end + mac_len].copy_from_slice(&mac[..mac_len]);
            content_end += mac_len;
            padding_end = sealed_len;
        }
        let padding = padding_end - content_end;
        fragment[content_end..padding_end].fill((padding - 1) as u8);
        self.cipher.encrypt(iv, &mut fragment[block..padding_end]);
        if self.encrypt_then_mac {
            let length = u16::try_from(padding_end).map_err(|_| SealError::Oversize)?;
            let mac = self
                .mac
                .compute(&header.additional_data(length), &fragment[..padding_end]);
            fragment[padding_end..].copy_from_slice(&mac[..mac_len]);
        }
        Ok(sealed_len)
    }

    /// Opens a fragment in place; returns where its content lies.
    pub(crate) fn open(&self, header: &RecordHeader, fragment: &mut [u8]) -> Result<Range<usize>, OpenError> {
        if self.encrypt_then_mac {
            self.open_encrypt_then_mac(header, fragment)
        } else {
            self.open_mac_then_encrypt(header, fragment)
        }
    }

    fn open_encrypt_then_mac(
        &self,
        header: &RecordHeader,
        fragment: &mut [u8],
    ) -> Result<Range<usize>, OpenError> {
        let mac_len = self.mac.len();
        let sealed_len = fragment.len().checked_sub(mac_len).ok_or(OpenError::Malformed)?;
        let (sealed, mac) = fragment
            .split_at_mut_checked(sealed_len)
            .ok_or(OpenError::Malformed)?;
        let length = u16::try_from(sealed_len).map_err(|_| OpenError::Malformed)?;
        let expected = self.mac.compute(&header.additional_data(length), sealed);
        if !bool::from(expected[..mac_len].ct_eq(mac)) {
            return Err(OpenError::Authentication);
        }
        let content = self.decrypt(sealed)?;
        let (padding, good) = padding(content, 0);
        if !bool::from(good) {
            return Err(OpenError::Authentication);
        }
        Ok(self.block()..sealed_len - padding)
    }

    fn open_mac_then_encrypt(
        &self,
        header: &RecordHeader,
        fragment: &mut [u8],
    ) -> Result<Range<usize>, OpenError> {
        let mac_len = self.mac.len();
        let content = self.decrypt(fragment)?;
        let max_len = content
            .len()
            .checked_sub(mac_len + 1)
            .ok_or(OpenError::Malformed)?;
        // From here to the end nothing may depend on `len` in time: see `mac`.
        let (padding, padding_good) = padding(content, mac_len);
        let len = content.len() - mac_len - padding;
        let min_len = (max_len + 1).saturating_sub(MAX_PADDING);
        let length = u16::try_from(max_len).map_err(|_| OpenError::Malformed)? - (max_len - len) as u16;
        let expected =
            self.mac
                .compute_secret_len(&header.additional_data(length), &content[..max_len], len, min_len);
        let received = extract_mac(content, len, min_len, mac_len);
        let mac_good = expected[..mac_len].ct_eq(&received[..mac_len]);
        if !bool::from(padding_good & mac_good) {
            return Err(OpenError::Authentication);
        }
        let block = self.block();
        Ok(block..block + len)
    }

    /// Decrypts what follows the IV; returns it.
    fn decrypt<'a>(&self, fragment: &'a mut [u8]) -> Result<&'a mut [u8], OpenError> {
        let block = self.block();
        let (iv, sealed) = fragment.split_at_mut_checked(block).ok_or(OpenError::Malformed)?;
        if sealed.is_empty() || !sealed.len().is_multiple_of(block) {
            return Err(OpenError::Malformed);
        }
        self.cipher.decrypt(iv, sealed);
        Ok(sealed)
    }
}

impl BlockCipher {
    /// `iv` has the length of a block, `blocks` a multiple of it.
    fn encrypt(&self, iv: &[u8], blocks: &mut [u8]) {
        match self {
            Self::Aes128(aes) => cbc::Encryptor::inner_iv_init(&**aes, GenericArray::from_slice(iv))
                .encrypt_blocks_inout_mut(InOutBuf::from(blocks).into_chunks().0),
            Self::Aes256(aes) => cbc::Encryptor::inner_iv_init(&**aes, GenericArray::from_slice(iv))
                .encrypt_blocks_inout_mut(InOutBuf::from(blocks).into_chunks().0),
            Self::TripleDes(des) => cbc::Encryptor::inner_iv_init(&**des, GenericArray::from_slice(iv))
                .encrypt_blocks_inout_mut(InOutBuf::from(blocks).into_chunks().0),
        }
    }

    /// As [`Self::encrypt`].
    fn decrypt(&self, iv: &[u8], blocks: &mut [u8]) {
        match self {
            Self::Aes128(aes) => cbc::Decryptor::inner_iv_init(&**aes, GenericArray::from_slice(iv))
                .decrypt_blocks_inout_mut(InOutBuf::from(blocks).into_chunks().0),
            Self::Aes256(aes) => cbc::Decryptor::inner_iv_init(&**aes, GenericArray::from_slice(iv))
                .decrypt_blocks_inout_mut(InOutBuf::from(blocks).into_chunks().0),
            Self::TripleDes(des) => cbc::Decryptor::inner_iv_init(&**des, GenericArray::from_slice(iv))
                .decrypt_blocks_inout_mut(InOutBuf::from(blocks).into_chunks().0),
        }
    }
}

/// Octets of padding (its length octet included) at the end of `content`, of which `reserved`
/// octets are something else, and whether the padding is right; 1 if not. Constant time.
/// `content` has at least `reserved + 1` octets.
fn padding(content: &[u8], reserved: usize) -> (usize, Choice) {
    let last = content.last().copied().unwrap_or_default();
    let claimed = u64::from(last) + 1;
    let mut good = !claimed.ct_gt(&((content.len() - reserved) as u64));
    for (distance, octet) in content.iter().rev().take(MAX_PADDING).enumerate() {
        let is_padding = claimed.ct_gt(&(distance as u64));
        good &= !is_padding | octet.ct_eq(&last);
    }
    (u64::conditional_select(&1, &claimed, good) as usize, good)
}

/// `content[at..at + mac_len]` in time that does not depend on `at`, which is at least `min_at`.
fn extract_mac(content: &[u8], at: usize, min_at: usize, mac_len: usize) -> [u8; MAX_MAC] {
    let window = content.get(min_at..).unwrap_or_default();
    let start = (at - min_at) as u64;
    let end = start + mac_len as u64;
    // One pass collects the MAC, rotated by `start` modulo its length; a second one undoes that.
    let mut rotated = [0; MAX_MAC];
    let mut rotation = 0u64;
    for (position, octet) in window.iter().enumerate() {
        let slot = position % mac_len;
        let position = position as u64;
        let inside = !position.ct_lt(&start) & position.ct_lt(&end);
        rotated[slot] |= u8::conditional_select(&0, octet, inside);
        rotation.conditional_assign(&(slot as u64), position.ct_eq(&start));
    }
    let mut mac = [0; MAX_MAC];
    for octet in mac.iter_mut().take(mac_len) {
        for (slot, candidate) in rotated.iter().take(mac_len).enumerate() {
            octet.conditional_assign(candidate, rotation.ct_eq(&(slot as u64)));
        }
        rotation += 1;
        rotation.conditional_assign(&0, rotation.ct_eq(&(mac_len as u64)));
    }
    mac
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> RecordHeader {
        RecordHeader {
            content_type: 23,
            version: 0xfefd,
            epoch: 1,
            sequence: 7,
            length: 0,
        }
    }

    fn ciphers() -> impl Iterator<Item = Cbc> {
        [
            (MacHash::Sha1, 16),
            (MacHash::Sha1, 24),
            (MacHash::Sha1, 32),
            (MacHash::Sha256, 16),
            (MacHash::Sha384, 32),
        ]
        .into_iter()
        .flat_map(|(hash, key_len)| [false, true].map(|etm| (hash, key_len, etm)))
        .map(|(hash, key_len, etm)| Cbc::new(hash, &[1; 32][..key_len], &[2; 48][..hash.len()], etm).unwrap())
    }

    /// A record with `padding` octets of padding, which may be more than the least.
    fn seal_with_padding(cbc: &Cbc, content: &[u8], padding: usize) -> Vec<u8> {
        let mac_len = cbc.mac.len();
        let iv = [9; MAX_BLOCK];
        let iv = &iv[..cbc.block()];
        let mut plain = content.to_vec();
        if !cbc.encrypt_then_mac {
            plain.extend_from_slice(
                &cbc.mac
                    .compute(&header().additional_data(content.len() as u16), content)[..mac_len],
            );
        }
        plain.extend(std::iter::repeat_n((padding - 1) as u8, padding));
        cbc.cipher.encrypt(iv, &mut plain);
        let mut fragment = [iv, &plain].concat();
        if cbc.encrypt_then_mac {
            let length = fragment.len() as u16;
            let mac = cbc.mac.compute(&header().additional_data(length), &fragment);
            fragment.extend_from_slice(&mac[..mac_len]);
        }
        fragment
    }

    #[test]
    fn all_paddings_up_to_256_are_accepted() {
        for cbc in ciphers() {
            for len in [0, 1, 15, 16, 40, 300] {
                let content = vec![0x5a; len];
                let unpadded = if cbc.encrypt_then_mac {
                    len
                } else {
                    len + cbc.mac.len()
                };
                let least = cbc.block() - unpadded % cbc.block();
                for padding in (least..=MAX_PADDING).step_by(cbc.block()) {
                    let mut fragment = seal_with_padding(&cbc, &content, padding);
                    let range = cbc.open(&header(), &mut fragment).unwrap();
                    assert_eq!(&fragment[range], &content[..]);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn round_trip(content in prop::collection::vec(any::<u8>(), 0..600)) {
            for cbc in ciphers() {
                let block = cbc.block();
                let mut fragment = vec![0; block + content.len() + cbc.tailroom()];
                fragment[block..block + content.len()].copy_from_slice(&content);
                let len = cbc.seal(&header(), &mut fragment, content.len() as u16).unwrap();
                prop_assert_eq!(len, cbc.sealed_len(content.len()));
                let range = cbc.open(&header(), &mut fragment[..len]).unwrap();
                prop_assert_eq!(&fragment[range], &content[..]);
            }
        }

        #[test]
        fn a_changed_octet_is_noticed(content in prop::collection::vec(any::<u8>(), 0..100), at: prop::sample::Index, xor in 1u8..) {
            for cbc in ciphers() {
                let block = cbc.block();
                let mut fragment = vec![0; block + content.len() + cbc.tailroom()];
                fragment[block..block + content.len()].copy_from_slice(&content);
                let len = cbc.seal(&header(), &mut fragment, content.len() as u16).unwrap();
                fragment.truncate(len);
                fragment[at.index(len)] ^= xor;
                prop_assert_eq!(cbc.open(&header(), &mut fragment), Err(OpenError::Authentication));
            }
        }

        #[test]
        fn junk_never_panics(junk in prop::collection::vec(any::<u8>(), 0..400)) {
            for cbc in ciphers() {
                prop_assert!(cbc.open(&header(), &mut junk.clone()).is_err());
            }
        }
    }
}

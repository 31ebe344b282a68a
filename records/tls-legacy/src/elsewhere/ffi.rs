//! OpenSSL's tables of methods for RSA and EC keys, with our function in the place where it signs.
//! Everything outside this module is safe code: a key owns a reference to its [`KeyElsewhere`],
//! which OpenSSL gives back when it frees the key.

use std::ffi::{c_int, c_long, c_uchar, c_uint, c_void};
use std::ptr::{NonNull, null_mut};
use std::sync::{Arc, OnceLock};

use foreign_types::ForeignType;
use openssl::ec::EcKey;
use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private, Public};
use openssl::rsa::Rsa;
use openssl_sys::{BIGNUM, CRYPTO_EX_DATA, CRYPTO_get_ex_new_index, EC_KEY, RSA};

use super::{KeyElsewhere, Operation};

/// CRYPTO_EX_INDEX_EC_KEY and CRYPTO_EX_INDEX_RSA of openssl/crypto.h.
const EX_INDEX_EC_KEY: c_int = 8;
const EX_INDEX_RSA: c_int = 9;
/// Paddings of RSA_private_encrypt.
const PADDING_PKCS1: c_int = 1;
const PADDING_NONE: c_int = 3;

/// `RSA_METHOD` and `EC_KEY_METHOD`, which only the library looks into.
#[repr(C)]
struct RsaMethod(c_void);
#[repr(C)]
struct EcKeyMethod(c_void);
/// `BN_CTX` and `ECDSA_SIG`, which only pass by.
#[repr(C)]
struct Opaque(c_void);

type PrivateEncrypt = unsafe extern "C" fn(c_int, *const c_uchar, *mut c_uchar, *mut RSA, c_int) -> c_int;
type EcSign = unsafe extern "C" fn(
    c_int,
    *const c_uchar,
    c_int,
    *mut c_uchar,
    *mut c_uint,
    *const BIGNUM,
    *const BIGNUM,
    *mut EC_KEY,
) -> c_int;
type EcSignSetup =
    unsafe extern "C" fn(*mut EC_KEY, *mut Opaque, *mut *mut BIGNUM, *mut *mut BIGNUM) -> c_int;
type EcSignSig =
    unsafe extern "C" fn(*const c_uchar, c_int, *const BIGNUM, *const BIGNUM, *mut EC_KEY) -> *mut Opaque;

unsafe extern "C" {
    fn RSA_PKCS1_OpenSSL() -> *const RsaMethod;
    fn RSA_meth_dup(method: *const RsaMethod) -> *mut RsaMethod;
    fn RSA_meth_set_priv_enc(method: *mut RsaMethod, encrypt: PrivateEncrypt) -> c_int;
    fn RSA_set_method(key: *mut RSA, method: *const RsaMethod) -> c_int;
    fn RSA_set_ex_data(key: *mut RSA, index: c_int, data: *mut c_void) -> c_int;
    fn RSA_get_ex_data(key: *const RSA, index: c_int) -> *mut c_void;
    fn RSA_size(key: *const RSA) -> c_int;
    fn EC_KEY_OpenSSL() -> *const EcKeyMethod;
    fn EC_KEY_METHOD_new(method: *const EcKeyMethod) -> *mut EcKeyMethod;
    fn EC_KEY_METHOD_set_sign(
        method: *mut EcKeyMethod,
        sign: Option<EcSign>,
        setup: Option<EcSignSetup>,
        sign_sig: Option<EcSignSig>,
    );
    fn EC_KEY_set_method(key: *mut EC_KEY, method: *const EcKeyMethod) -> c_int;
    fn EC_KEY_set_ex_data(key: *mut EC_KEY, index: c_int, data: *mut c_void) -> c_int;
    fn EC_KEY_get_ex_data(key: *const EC_KEY, index: c_int) -> *mut c_void;
    fn ECDSA_size(key: *const EC_KEY) -> c_int;
}

/// A table that lives as long as the process, and where keys with it keep their [`KeyElsewhere`].
struct Methods<T> {
    table: NonNull<T>,
    index: c_int,
}

// SAFETY: the table is only read once it is made; so OpenSSL shares its own.
unsafe impl<T> Send for Methods<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Methods<T> {}

/// The slot for our data in keys of this class.
fn new_index(class: c_int) -> c_int {
    // SAFETY: the functions have the types that the library wants.
    unsafe { CRYPTO_get_ex_new_index(class, 0, null_mut(), None, Some(forget_copy), Some(free)) }
}

fn rsa_methods() -> Option<&'static Methods<RsaMethod>> {
    static METHODS: OnceLock<Option<Methods<RsaMethod>>> = OnceLock::new();
    let make = || {
        let index = new_index(EX_INDEX_RSA);
        // SAFETY: the library's own table is copied, and the copy changed before anybody has it.
        let table = unsafe {
            let table = NonNull::new(RSA_meth_dup(RSA_PKCS1_OpenSSL()))?;
            (RSA_meth_set_priv_enc(table.as_ptr(), rsa_private_encrypt) == 1).then_some(table)?
        };
        (index >= 0).then_some(Methods { table, index })
    };
    METHODS.get_or_init(make).as_ref()
}

fn ec_methods() -> Option<&'static Methods<EcKeyMethod>> {
    static METHODS: OnceLock<Option<Methods<EcKeyMethod>>> = OnceLock::new();
    let make = || {
        let index = new_index(EX_INDEX_EC_KEY);
        // SAFETY: as for RSA. Without the two other functions nothing can sign but ours.
        let table = unsafe {
            let table = NonNull::new(EC_KEY_METHOD_new(EC_KEY_OpenSSL()))?;
            EC_KEY_METHOD_set_sign(table.as_ptr(), Some(ec_sign), None, None);
            table
        };
        (index >= 0).then_some(Methods { table, index })
    };
    METHODS.get_or_init(make).as_ref()
}

/// Gives `public`, which nobody else has, a private half that is elsewhere.
pub(super) fn rsa(public: &Rsa<Public>, key: &Arc<KeyElsewhere>) -> Result<PKey<Private>, ErrorStack> {
    let methods = rsa_methods().ok_or_else(ErrorStack::get)?;
    let data = Arc::into_raw(Arc::clone(key)).cast_mut().cast();
    // SAFETY: the key and the table are alive. The key owns `data` once it has it.
    unsafe {
        if RSA_set_ex_data(public.as_ptr(), methods.index, data) != 1 {
            drop(Arc::<KeyElsewhere>::from_raw(data.cast()));
            return Err(ErrorStack::get());
        }
        if RSA_set_method(public.as_ptr(), methods.table.as_ptr()) != 1 {
            return Err(ErrorStack::get());
        }
    }
    PKey::from_rsa(public.clone()).map(private)
}

/// Gives `public`, which nobody else has, a private half that is elsewhere.
pub(super) fn ec(public: &EcKey<Public>, key: &Arc<KeyElsewhere>) -> Result<PKey<Private>, ErrorStack> {
    let methods = ec_methods().ok_or_else(ErrorStack::get)?;
    let data = Arc::into_raw(Arc::clone(key)).cast_mut().cast();
    // SAFETY: as for RSA.
    unsafe {
        if EC_KEY_set_ex_data(public.as_ptr(), methods.index, data) != 1 {
            drop(Arc::<KeyElsewhere>::from_raw(data.cast()));
            return Err(ErrorStack::get());
        }
        if EC_KEY_set_method(public.as_ptr(), methods.table.as_ptr()) != 1 {
            return Err(ErrorStack::get());
        }
    }
    PKey::from_ec_key(public.clone()).map(private)
}

/// Such a key signs, so it counts as a private one.
fn private(key: PKey<Public>) -> PKey<Private> {
    let pointer = key.as_ptr();
    std::mem::forget(key);
    // SAFETY: the pointer is owned, and both types are the same object to the library.
    unsafe { PKey::from_ptr(pointer) }
}

/// What a key's slot holds.
///
/// # Safety
/// `data` is null or what [`rsa`] or [`ec`] has put there, and the key lives as long as the result.
unsafe fn elsewhere<'a>(data: *mut c_void) -> Option<&'a KeyElsewhere> {
    // SAFETY: see above; the slot owns a reference.
    unsafe { data.cast::<KeyElsewhere>().as_ref() }
}

/// What the library wants signed.
///
/// # Safety
/// There are `len` octets.
unsafe fn input<'a>(from: *const c_uchar, len: c_int) -> Option<&'a [u8]> {
    let len = usize::try_from(len).ok().filter(|_| !from.is_null())?;
    // SAFETY: see above.
    Some(unsafe { std::slice::from_raw_parts(from, len) })
}

unsafe extern "C" fn rsa_private_encrypt(
    len: c_int,
    from: *const c_uchar,
    to: *mut c_uchar,
    rsa: *mut RSA,
    padding: c_int,
) -> c_int {
    let sign = || {
        let index = rsa_methods()?.index;
        // SAFETY: the library calls with a key that has our table, with `len` octets at `from`, and
        // with room for as many octets as the modulus has at `to`.
        unsafe {
            let key = elsewhere(RSA_get_ex_data(rsa, index))?;
            let input = input(from, len)?;
            let operation = match padding {
                PADDING_PKCS1 => Operation::RsaPkcs1(input),
                PADDING_NONE => Operation::RsaBare(input),
                _ => return None,
            };
            let signature = key.sign(operation, usize::try_from(RSA_size(rsa)).ok()?)?;
            to.copy_from_nonoverlapping(signature.as_ptr(), signature.len());
            c_int::try_from(signature.len()).ok()
        }
    };
    sign().unwrap_or(-1)
}

unsafe extern "C" fn ec_sign(
    _kind: c_int,
    digest: *const c_uchar,
    len: c_int,
    to: *mut c_uchar,
    to_len: *mut c_uint,
    _kinv: *const BIGNUM,
    _r: *const BIGNUM,
    ec: *mut EC_KEY,
) -> c_int {
    let sign = || {
        let index = ec_methods()?.index;
        // SAFETY: as for RSA; there is room for the longest signature.
        unsafe {
            let key = elsewhere(EC_KEY_get_ex_data(ec, index))?;
            let operation = Operation::Ecdsa(input(digest, len)?);
            let signature = key.sign(operation, usize::try_from(ECDSA_size(ec)).ok()?)?;
            to.copy_from_nonoverlapping(signature.as_ptr(), signature.len());
            to_len.write(c_uint::try_from(signature.len()).ok()?);
        }
        Some(1)
    };
    sign().unwrap_or(0)
}

/// A copy of a key does not own what the original owns.
unsafe extern "C" fn forget_copy(
    _to: *mut CRYPTO_EX_DATA,
    _from: *const CRYPTO_EX_DATA,
    from_data: *mut *mut c_void,
    _index: c_int,
    _argl: c_long,
    _argp: *mut c_void,
) -> c_int {
    // SAFETY: the library passes the place of the copied pointer.
    unsafe { from_data.write(null_mut()) };
    1
}

/// The key is freed.
unsafe extern "C" fn free(
    _parent: *mut c_void,
    data: *mut c_void,
    _ad: *mut CRYPTO_EX_DATA,
    _index: c_int,
    _argl: c_long,
    _argp: *mut c_void,
) {
    if !data.is_null() {
        // SAFETY: the slot owns the reference that was put there.
        drop(unsafe { Arc::<KeyElsewhere>::from_raw(data.cast()) });
    }
}

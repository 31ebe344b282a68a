//! The proxy that the desktop's or the system's settings name, by libproxy, which is loaded at run
//! time.

use std::ffi::{CStr, CString, c_char, c_void};

use crate::library::{Library, LibraryError};

/// More proxies than these are not looked at.
const PROXIES_MAX: usize = 32;

type New = unsafe extern "C" fn() -> *mut c_void;
type Get = unsafe extern "C" fn(*mut c_void, *const c_char) -> *mut *mut c_char;
type FreeProxies = unsafe extern "C" fn(*mut *mut c_char);
type Free = unsafe extern "C" fn(*mut c_void);

/// libproxy, loaded.
#[derive(Debug, Clone, Copy)]
pub struct LibProxy(Library);

impl LibProxy {
    /// Loads the library.
    ///
    /// # Errors
    /// It is not there.
    pub fn load() -> Result<Self, LibraryError> {
        Library::open(&["libproxy.so.1"]).map(Self)
    }

    /// What libproxy says for a URL, best first: `direct://`, `http://host:port`, `socks5://host:port`
    /// and the like. Nothing when it has nothing to say. It may ask the network for a configuration.
    pub fn proxies(self, url: &str) -> Vec<String> {
        let Ok(url) = CString::new(url) else {
            return Vec::new();
        };
        // SAFETY: the signatures of proxy.h.
        let functions = unsafe {
            (
                self.0.function::<New>(c"px_proxy_factory_new"),
                self.0.function::<Get>(c"px_proxy_factory_get_proxies"),
                self.0.function::<Free>(c"px_proxy_factory_free"),
                self.0.function::<FreeProxies>(c"px_proxy_factory_free_proxies"),
            )
        };
        let (Some(new), Some(get), Some(free), free_proxies) = functions else {
            return Vec::new();
        };
        // SAFETY: no arguments.
        let factory = unsafe { new() };
        if factory.is_null() {
            return Vec::new();
        }
        // SAFETY: `factory` is a factory and `url` a C string.
        let list = unsafe { get(factory, url.as_ptr()) };
        let mut proxies = Vec::new();
        if !list.is_null() {
            for index in 0..PROXIES_MAX {
                // SAFETY: the list ends with a null pointer, which ends this loop.
                let proxy = unsafe { *list.add(index) };
                if proxy.is_null() {
                    break;
                }
                // SAFETY: the others are C strings.
                let text = unsafe { CStr::from_ptr(proxy) };
                proxies.push(text.to_string_lossy().into_owned());
            }
            // Before 0.4.16 there is no function for it; then the few octets stay.
            if let Some(free_proxies) = free_proxies {
                // SAFETY: `list` is from this factory and not used any more.
                unsafe { free_proxies(list) };
            }
        }
        // SAFETY: `factory` is not used any more.
        unsafe { free(factory) };
        proxies
    }
}

//! The C environment of the Erlang VM.
//!
//! libgomp reads `GOMP_*` and `OMP_*` once, when it is loaded, and Erlang's `os:putenv` does not
//! reach the C environment. This library does not pull in libgomp, and is loaded before the one
//! that does.

use rustler::Atom;

mod atoms {
    rustler::atoms! { set, kept }
}

/// Sets a variable unless it has a value already: what the operator chose stays.
#[rustler::nif]
fn put_default(name: String, value: String) -> Result<Atom, String> {
    if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
        return Err(format!("expected the name of an environment variable, got {name:?}"));
    }
    if std::env::var_os(&name).is_some() {
        return Ok(atoms::kept());
    }
    #[allow(unsafe_code)]
    // SAFETY: called once, while the application starts and before libtorch is loaded, when no
    // other thread of the VM changes the environment.
    unsafe {
        std::env::set_var(name, value);
    }
    Ok(atoms::set())
}

//! Source of a program to be watched: it loads what `CUDA_INJECTION64_PATH` names, as a CUDA driver does while it
//! starts, and then obeys its words: `items=N` lets the stand-in of CUPTI record N items, `sleep_ms=N`, `fork`, `abort`,
//! `say=TEXT`, `exit=N`.

use std::env;
use std::ffi::{c_char, c_int, c_void, CString};

extern "C" {
    fn dlopen(file: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
    fn fork() -> c_int;
    fn waitpid(process: c_int, status: *mut c_int, options: c_int) -> c_int;
}

const NOW: c_int = 2;

unsafe fn function(file: &str, name: &str) -> Option<*mut c_void> {
    let (file, name) = (CString::new(file).unwrap(), CString::new(name).unwrap());
    let library = dlopen(file.as_ptr(), NOW);
    let found = if library.is_null() { library } else { dlsym(library, name.as_ptr()) };
    (!found.is_null()).then_some(found)
}

fn main() {
    if let Ok(injected) = env::var("CUDA_INJECTION64_PATH") {
        let initialize = unsafe { function(&injected, "InitializeInjection") }.expect("no InitializeInjection");
        let initialize: extern "C" fn() -> c_int = unsafe { std::mem::transmute(initialize) };
        assert_eq!(initialize(), 1);
    }
    let run = unsafe { function("libcupti.so.13", "stand_in_run") };
    let run: Option<extern "C" fn(u32)> = run.map(|run| unsafe { std::mem::transmute(run) });
    for word in env::args().skip(1) {
        match word.split_once('=').unwrap_or((&word, "")) {
            ("items", count) => {
                let count = count.parse().unwrap();
                if count > 0 {
                    run.expect("no stand-in of CUPTI")(count);
                }
            }
            ("sleep_ms", span) => std::thread::sleep(std::time::Duration::from_millis(span.parse().unwrap())),
            ("say", text) => println!("{text}"),
            ("exit", code) => std::process::exit(code.parse().unwrap()),
            ("fork", _) => match unsafe { fork() } {
                0 => return,
                child => assert_eq!(unsafe { waitpid(child, &mut 0, 0) }, child),
            },
            ("abort", _) => std::process::abort(),
            _ => panic!("the program does not know {word}"),
        }
    }
}

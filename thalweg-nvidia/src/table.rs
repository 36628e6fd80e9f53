//! The functions of one library as a table: what CUDA's and NVML's share.
//!
//! In: an open [`Library`](crate::Library). Out: one method per function, which returns the library's error with
//! its code and name. A function that the library lacks is an error of the call that needs it.

/// Declares a table of functions that return a status, 0 for success.
///
/// `checked` functions become methods that return `Result<()>`. Those under `polled` return the bare status,
/// since a status that is no failure (`CUDA_ERROR_NOT_READY`) should cost no allocation.
macro_rules! function_table {
    (
        $(#[$about:meta])*
        $table:ident
        checked { $( $symbol:literal $method:ident ( $($name:ident : $type:ty),* ); )* }
        polled { $( $polled_symbol:literal $polled:ident ( $($polled_name:ident : $polled_type:ty),* ); )* }
    ) => {
        $(#[$about])*
        pub(crate) struct $table {
            library: $crate::library::Library,
            $( $method: Option<unsafe extern "C" fn($($type),*) -> std::ffi::c_int>, )*
            $( $polled: Option<unsafe extern "C" fn($($polled_type),*) -> std::ffi::c_int>, )*
        }

        impl $table {
            /// Looks every function up.
            pub(crate) fn new(library: $crate::library::Library) -> Self {
                Self {
                    $(
                        // SAFETY: the declarations are those of NVIDIA's header; the table's comment names it.
                        $method: unsafe { library.function($symbol) }.ok(),
                    )*
                    $(
                        // SAFETY: as above.
                        $polled: unsafe { library.function($polled_symbol) }.ok(),
                    )*
                    library,
                }
            }

            /// The library that the functions are from.
            pub(crate) fn library(&self) -> &$crate::library::Library {
                &self.library
            }

            $(
                /// # Safety
                /// What NVIDIA documents for the function of this name.
                pub(crate) unsafe fn $method(&self, $($name: $type),*) -> $crate::error::Result<()> {
                    let function = self.$method.ok_or_else(|| self.library.missing($symbol))?;
                    // SAFETY: as the caller promises.
                    let code = unsafe { function($($name),*) };
                    $crate::version::check(&self.library, $symbol, code)
                }
            )*

            $(
                /// # Safety
                /// What NVIDIA documents for the function of this name.
                pub(crate) unsafe fn $polled(
                    &self,
                    $($polled_name: $polled_type),*
                ) -> $crate::error::Result<std::ffi::c_int> {
                    let function = self.$polled.ok_or_else(|| self.library.missing($polled_symbol))?;
                    // SAFETY: as the caller promises.
                    Ok(unsafe { function($($polled_name),*) })
                }
            )*
        }
    };
}

pub(crate) use function_table;

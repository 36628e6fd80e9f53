/* Counts how often a process asks for memory on the heap, and says so at its end.
 *
 *     gcc -O2 -shared -fPIC -o liballocations.so scripts/gpu/allocations.c
 *     LD_PRELOAD=./liballocations.so thalweg bench ...
 *
 * The last line on stderr is `allocations OWN of ALL`: OWN are those of the program itself, and the others those of its
 * libraries, CUDA's and TensorRT's among them. What one execution asks for is the difference of two runs over the
 * difference of their executions: limit.py does that.
 */
#define _GNU_SOURCE
#include <link.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static atomic_ulong own, all;
/* Where the program lies. */
static uintptr_t first, last;

static int find(struct dl_phdr_info *object, size_t size, void *data) {
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        if (part->p_type != PT_LOAD || !(part->p_flags & PF_X)) continue;
        uintptr_t from = object->dlpi_addr + part->p_vaddr, to = from + part->p_memsz;
        if (first == 0 || from < first) first = from;
        if (to > last) last = to;
    }
    return 1; /* The program comes before its libraries. */
}

__attribute__((constructor)) static void begin(void) { dl_iterate_phdr(find, NULL); }

#define COUNT() count((uintptr_t)__builtin_return_address(0))

static void count(uintptr_t caller) {
    atomic_fetch_add_explicit(&all, 1, memory_order_relaxed);
    if (caller >= first && caller < last) atomic_fetch_add_explicit(&own, 1, memory_order_relaxed);
}

void *malloc(size_t size) {
    COUNT();
    return __libc_malloc(size);
}

void *calloc(size_t number, size_t size) {
    COUNT();
    return __libc_calloc(number, size);
}

void *realloc(void *old, size_t size) {
    COUNT();
    return __libc_realloc(old, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
    COUNT();
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **to, size_t alignment, size_t size) {
    COUNT();
    *to = __libc_memalign(alignment, size);
    return *to ? 0 : 12;
}

__attribute__((destructor)) static void tell(void) {
    fprintf(stderr, "allocations %lu of %lu\n", atomic_load(&own), atomic_load(&all));
}

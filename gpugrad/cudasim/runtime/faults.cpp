// What went wrong: the first fault of a launch, the compiler's arithmetic checks, and crashes.
#include "device.h"

#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

volatile int interrupted;

namespace {

thread_local Fault fault;
pthread_t launching;
const int SIGNALS[] = {SIGFPE, SIGSEGV, SIGBUS, SIGILL, SIGINT};
constexpr int SIGNAL_COUNT = sizeof SIGNALS / sizeof *SIGNALS;
struct sigaction previous[SIGNAL_COUNT];

void record(FaultKind kind, int places, Place first, Place second, const char* text, va_list a) {
    if (failed) return;
    failed = true;
    fault.kind = kind;
    fault.places = places;
    fault.place[0] = first;
    fault.place[1] = second;
    fault.line = 0;
    fault.file[0] = 0;
    vsnprintf(fault.text, sizeof fault.text, text, a);
}

void chain(int number, siginfo_t* info, void* context) {
    for (int i = 0; i < SIGNAL_COUNT; ++i) {
        if (SIGNALS[i] != number) continue;
        const struct sigaction& old = previous[i];
        if (old.sa_flags & SA_SIGINFO) old.sa_sigaction(number, info, context);
        else if (old.sa_handler == SIG_DFL) {
            signal(number, SIG_DFL);
            raise(number);
        } else if (old.sa_handler != SIG_IGN) old.sa_handler(number);
    }
}

uintptr_t program_counter(void* context) {
    ucontext_t* c = (ucontext_t*) context;
    (void) c;
#if defined(__x86_64__)
    return (uintptr_t) c->uc_mcontext.gregs[REG_RIP] + 1;       // as if it had been a call
#elif defined(__aarch64__)
    return (uintptr_t) c->uc_mcontext.pc + 1;
#else
    return 0;
#endif
}

// A crash of a kernel ends the launch, not the process: its fiber is left where it is.
void on_signal(int number, siginfo_t* info, void* context) {
    if (number == SIGINT) {
        interrupted = 1;
        chain(number, info, context);
        return;
    }
    if (!on_a_fiber() || !pthread_equal(launching, pthread_self())) {
        chain(number, info, context);
        return;
    }
    Place at = here(program_counter(context));
    if (number == SIGFPE)
        fail_at(ARITHMETIC, at, "integer division by zero, or a quotient that overflows, by {0}");
    else if (number == SIGSEGV && in_guard_page((uintptr_t) info->si_addr))
        fail_at(CRASH, at, "too much local memory: {0} uses more than 256 KiB of stack");
    else
        fail_at(CRASH, at, "the kernel crashed at address %p (%s), by {0}; mode \"check\" says "
                "more", info->si_addr, number == SIGBUS ? "bus error" : number == SIGILL ?
                "illegal instruction" : "no such memory");
    abandon();
}

// Signals come on a stack of their own, or a full stack could not be reported.
void own_signal_stack() {
    static thread_local bool done;
    if (done) return;
    done = true;
    stack_t now;
    if (sigaltstack(nullptr, &now) == 0 && !(now.ss_flags & SS_DISABLE)) return;
    constexpr size_t SIZE = 64 << 10;
    stack_t mine = {};
    mine.ss_sp = malloc(SIZE);
    mine.ss_size = SIZE;
    if (mine.ss_sp) sigaltstack(&mine, nullptr);
}

}  // namespace

Place place_of(uint64_t block, int thread, uintptr_t pc) {
    const uint32_t *g = launched->grid, *b = launched->block;
    bool inside = pc >= launched->module->begin && pc <= launched->module->end;
    return {inside ? pc - launched->module->base : 0,
            {(unsigned) (block % g[0]), (unsigned) (block / g[0] % g[1]),
             (unsigned) (block / g[0] / g[1])},
            {thread % b[0], thread / b[0] % b[1], thread / b[0] / b[1]}};
}

Place here(uintptr_t pc) { return place_of(block_number, current, pc); }

void fail(FaultKind kind, const char* text, ...) {
    va_list a;
    va_start(a, text);
    record(kind, 0, {}, {}, text, a);
    va_end(a);
}

void fail_at(FaultKind kind, Place at, const char* text, ...) {
    va_list a;
    va_start(a, text);
    record(kind, 1, at, {}, text, a);
    va_end(a);
}

void fail_between(FaultKind kind, Place first, Place second, const char* text, ...) {
    va_list a;
    va_start(a, text);
    record(kind, 2, first, second, text, a);
    va_end(a);
}

void faults_launch() {
    fault.kind = NO_FAULT;
    interrupted = 0;
    launching = pthread_self();
    own_signal_stack();
}

void catch_signals() {
    struct sigaction mine = {};
    mine.sa_sigaction = on_signal;
    mine.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    for (int i = 0; i < SIGNAL_COUNT; ++i) sigaction(SIGNALS[i], &mine, &previous[i]);
}

void release_signals() {
    for (int i = 0; i < SIGNAL_COUNT; ++i) sigaction(SIGNALS[i], &previous[i], nullptr);
}

extern "C" {

const Fault* cs_fault() { return &fault; }

// __trap, and an assertion that doesn't hold.
void cs_trap(const char* what, const char* file, int line) {
    if (file) {
        fail_at(TRAP, here(CALLER), "%s by {0}", what);
        snprintf(fault.file, sizeof fault.file, "%s", file);
        fault.line = (uint32_t) line;
    }
    abandon();
}

int cs_printf(const char* format, ...) {
    va_list a;
    va_start(a, format);
    int n = vprintf(format, a);
    va_end(a);
    fflush(stdout);
    return n;
}

// ---- what g++ -fsanitize=bounds,shift,... calls; each hands over where in the source it is -----

struct SourceLocation {
    const char* file;
    uint32_t line, column;
};

static void arithmetic(FaultKind kind, const char* what, const SourceLocation* at) {
    if (current < 0) return;
    fail_at(kind, here(0), "%s by {0}", what);
    snprintf(fault.file, sizeof fault.file, "%s", at->file ? at->file : "");
    fault.line = at->line;
    abandon();
}

#define CHECK(name, kind, text)                                                                \
    void __ubsan_handle_##name(SourceLocation* at, ...) { arithmetic(kind, text, at); }
CHECK(out_of_bounds, OUT_OF_BOUNDS, "out of bounds: an index outside a dimension of its array,")
CHECK(divrem_overflow, ARITHMETIC, "integer division by zero, or a quotient that overflows,")
CHECK(shift_out_of_bounds, ARITHMETIC, "shift overflow: by too much, or over the sign,")
CHECK(add_overflow, ARITHMETIC, "integer overflow of a sum")
CHECK(sub_overflow, ARITHMETIC, "integer overflow of a difference")
CHECK(mul_overflow, ARITHMETIC, "integer overflow of a product")
CHECK(negate_overflow, ARITHMETIC, "integer overflow of a negation")
CHECK(float_cast_overflow, ARITHMETIC, "a floating number that its integer type can't hold,")
CHECK(builtin_unreachable, TRAP, "__builtin_unreachable reached")
CHECK(missing_return, TRAP, "a function that returns a value ends without one,")

// Null, or not aligned for its type: (location, type, log2 of the alignment), address.
struct TypeMismatch {
    SourceLocation at;
    const void* type;
    unsigned char log_alignment, kind;
};

void __ubsan_handle_type_mismatch_v1(TypeMismatch* data, uintptr_t address) {
    char text[160];
    if (address < 4096)
        snprintf(text, sizeof text, "out of bounds: access through a null pointer");
    else
        snprintf(text, sizeof text, "misaligned access at address %p, which is not a multiple of "
                 "%d,", (void*) address, 1 << data->log_alignment);
    arithmetic(address < 4096 ? OUT_OF_BOUNDS : MISALIGNED, text, &data->at);
}
}

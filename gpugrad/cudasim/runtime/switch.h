// Changing stacks: cs_switch(&mine, other) saves the running context and goes on with another one.
//
// A context is its stack pointer; what a function must preserve lies on the stack above it.
#pragma once
#include <stdint.h>

#if defined(CUDASIM_UCONTEXT) || !(defined(__x86_64__) || defined(__aarch64__))
// Any machine with ucontext.h; slower, since each switch asks the kernel to save the signal mask.
#include <stdlib.h>
#include <ucontext.h>

typedef ucontext_t* Context;

static inline void cs_switch(Context* mine, Context other) {
    if (!*mine) *mine = (Context) calloc(1, sizeof(ucontext_t));
    swapcontext(*mine, other);
}

static inline void new_context(Context* context, char* stack, size_t bytes, void (*entry)()) {
    if (!*context) *context = (Context) calloc(1, sizeof(ucontext_t));
    getcontext(*context);
    (*context)->uc_stack.ss_sp = stack;
    (*context)->uc_stack.ss_size = bytes;
    (*context)->uc_link = nullptr;
    makecontext(*context, entry, 0);
}
#else
typedef void* Context;

extern "C" void cs_switch(Context* mine, Context other);

#if defined(__x86_64__)
asm(R"(.pushsection .text
.globl cs_switch
.type cs_switch, @function
cs_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size cs_switch, .-cs_switch
.popsection
)");

// As if entry had just been called: six registers, its address, and no caller.
static inline void new_context(Context* context, char* stack, size_t bytes, void (*entry)()) {
    void** top = (void**) (((uintptr_t) stack + bytes) & ~(uintptr_t) 15);
    *--top = nullptr;
    *--top = (void*) entry;
    for (int i = 0; i < 6; ++i) *--top = nullptr;
    *context = top;
}
#else
asm(R"(.pushsection .text
.globl cs_switch
.type cs_switch, %function
cs_switch:
    stp x29, x30, [sp, #-160]!
    stp x19, x20, [sp, #16]
    stp x21, x22, [sp, #32]
    stp x23, x24, [sp, #48]
    stp x25, x26, [sp, #64]
    stp x27, x28, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #16]
    ldp x21, x22, [sp, #32]
    ldp x23, x24, [sp, #48]
    ldp x25, x26, [sp, #64]
    ldp x27, x28, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    ldp x29, x30, [sp], #160
    ret
.size cs_switch, .-cs_switch
.popsection
)");

// As if entry had saved its registers at its first instruction.
static inline void new_context(Context* context, char* stack, size_t bytes, void (*entry)()) {
    void** top = (void**) (((uintptr_t) stack + bytes) & ~(uintptr_t) 15) - 20;
    for (int i = 0; i < 20; ++i) top[i] = nullptr;
    top[1] = (void*) entry;                        // x30
    *context = top;
}
#endif
#endif

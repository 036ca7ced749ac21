// dragoman/mark.h - for guest programs: marks between which tools look on, with the option `marks`:
//
//     DGM_MARK_BEGIN();
//     work();
//     DGM_MARK_END();
//
// `dragoman run --tool count:marks PROGRAM`. The instruction does nothing on a real CPU, under
// other emulators, and under dragoman without that option. For whom it is compiled: AArch64;
// elsewhere the macros are empty.
#ifndef DRAGOMAN_MARK_H
#define DRAGOMAN_MARK_H

#ifdef __aarch64__ // HINT 112 and 113, which the architecture leaves free
#define DGM_MARK_BEGIN() __asm__ volatile("hint #112" ::: "memory")
#define DGM_MARK_END()   __asm__ volatile("hint #113" ::: "memory")
#else
#define DGM_MARK_BEGIN() ((void)0)
#define DGM_MARK_END()   ((void)0)
#endif

#endif

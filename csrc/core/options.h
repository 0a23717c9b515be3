/* Switches that both the plan (its key) and an op's choice of implementation read. */
#ifndef PCNN_CORE_OPTIONS_H
#define PCNN_CORE_OPTIONS_H

/* Where 3x3 and 5x5 convolutions go through Winograd's transforms: nowhere, where that is faster and as
 * accurate as promised, or (for tests) wherever it is correct. */
enum { PCNN_WINOGRAD_OFF, PCNN_WINOGRAD_AUTO, PCNN_WINOGRAD_ALWAYS };

/* Runs read it without the GIL. */
extern _Atomic int pcnn_option_winograd;

#endif

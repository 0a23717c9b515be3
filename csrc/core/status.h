/* Every function of the engine that can fail returns a status; the message waits in thread-local
 * memory until the caller at the Python boundary turns it into an exception. */
#ifndef PCNN_CORE_STATUS_H
#define PCNN_CORE_STATUS_H

typedef enum {
    PCNN_OK = 0,
    PCNN_ERR_VALUE,           /* ValueError */
    PCNN_ERR_SHAPE,           /* ShapeError: both a ValueError and a RuntimeError */
    PCNN_ERR_TYPE,            /* TypeError */
    PCNN_ERR_INDEX,           /* IndexError */
    PCNN_ERR_MEMORY,          /* MemoryError */
    PCNN_ERR_NOT_IMPLEMENTED, /* NotImplementedError */
    PCNN_ERR_RUNTIME,         /* RuntimeError */
} pcnn_status;

/* Stores a printf-style message for this thread and returns `code`, so that a check reads
 * `return pcnn_fail(PCNN_ERR_SHAPE, "conv2d: ...", ...);`. */
__attribute__((format(printf, 2, 3))) pcnn_status pcnn_fail(pcnn_status code, const char *format,
                                                            ...);

/* The message of this thread's last failure. */
const char *pcnn_error_message(void);

#define PCNN_TRY(expression)                \
    do {                                    \
        pcnn_status status_ = (expression); \
        if (status_ != PCNN_OK)             \
            return status_;                 \
    } while (0)

#endif

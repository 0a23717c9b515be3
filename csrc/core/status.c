/* The thread-local error message. */
#include "core/status.h"

#include <stdarg.h>
#include <stdio.h>

static _Thread_local char message[1024];

pcnn_status
pcnn_fail(pcnn_status code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return code;
}

const char *
pcnn_error_message(void)
{
    return message;
}

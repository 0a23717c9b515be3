/* Labels: what nodes were recorded for, told by profiles and never computed with.
 *
 * A thread has a stack of labels. A node gets the top one when it is recorded; the nodes of a
 * gradient get that of the node they are the gradient of, and the phase "backward". */
#include "graph/graph.h"

#include <stdlib.h>
#include <string.h>

static _Thread_local pcnn_label *top; /* owned, as each label owns the one below */
static _Thread_local const pcnn_node *differentiated;

static pcnn_label *
label_ref(pcnn_label *label)
{
    if (label != NULL)
        label->refs++;
    return label;
}

void
pcnn_label_unref(pcnn_label *label)
{
    while (label != NULL && --label->refs == 0) {
        pcnn_label *below = label->below;
        free(label);
        label = below;
    }
}

pcnn_status
pcnn_label_push(const char *text, pcnn_phase phase)
{
    size_t bytes = strlen(text) + 1;
    pcnn_label *label = malloc(sizeof *label + bytes);
    if (label == NULL)
        return pcnn_fail(PCNN_ERR_MEMORY, "cannot allocate a label");
    label->refs = 1;
    label->below = top;
    label->phase = phase;
    memcpy(label->text, text, bytes);
    top = label;
    return PCNN_OK;
}

bool
pcnn_label_pop(void)
{
    pcnn_label *label = top;
    if (label == NULL)
        return false;
    top = label_ref(label->below);
    pcnn_label_unref(label);
    return true;
}

void
pcnn_label_mark(pcnn_node *node)
{
    if (differentiated != NULL) {
        node->label = label_ref(differentiated->label);
        node->phase = PCNN_BACKWARD;
    }
    else if (top != NULL) {
        node->label = label_ref(top);
        node->phase = top->phase;
    }
}

void
pcnn_label_differentiate(const pcnn_node *node)
{
    differentiated = node;
}

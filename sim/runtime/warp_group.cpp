// Products of warp groups that threads have issued and not yet waited for.
#include "block.h"

namespace sim {

bool has_warp_groups() { return options().capability == 90; }

void issue_product(const GroupProduct& product) {
    Thread& me = self();
    me.products.push_back(product);
    me.products.back().set = me.product_set;
}

void commit_products() { self().product_set++; }

const GroupProduct* next_product(unsigned sets) {
    Thread& me = self();
    if (me.products_done == me.products.size()) {
        me.products.clear();
        me.products_done = 0;
        return nullptr;
    }
    const GroupProduct& next = me.products[me.products_done];
    if (next.set + sets >= me.product_set) return nullptr;
    me.products_done++;
    return &next;
}

}  // namespace sim

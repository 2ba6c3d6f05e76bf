//! What the filter does, told once and run against the state machine natively
//! and against the compiled module.

#![allow(unreachable_pub)]

pub mod body;
pub mod decisions;
pub mod failures;
pub mod headers;
pub mod lifecycle;
pub mod models;
pub mod slices;
pub mod stream;

/// Hands every scenario's name and function to the macro `$run`.
macro_rules! every_scenario {
    ($run:ident) => {
        $run! {
            headers: client_copies_of_our_headers_are_removed_on_every_method,
            headers: with_overrides_only_the_forged_destination_is_removed,
            headers: without_overrides_a_pin_is_not_heard,
            headers: what_is_not_a_prompt_passes_at_once,
            headers: a_prefix_before_the_path_and_a_query_behind_it_do_not_matter,
            headers: a_post_without_a_body_falls_back,
            headers: a_bad_configuration_passes_requests_and_strips_headers,
            body: a_declared_body_that_is_too_large_is_not_held,
            body: a_chunked_body_that_grows_too_large_is_let_go,
            body: a_body_in_many_pieces_is_read_as_it_arrives,
            body: what_can_be_no_body_is_let_go_before_its_end,
            body: trailers_end_a_body,
            body: what_can_not_be_tokenized_falls_back_by_name,
            decisions: the_question_holds_what_the_engine_will_hash,
            decisions: an_adapter_and_a_salt_move_the_hashes,
            decisions: completions_are_asked_for_too,
            decisions: a_decision_becomes_the_override_host_header,
            decisions: a_decision_becomes_the_cluster_header,
            decisions: a_rank_is_named_where_there_are_several,
            decisions: a_pin_a_policy_and_explain_reach_the_indexer,
            decisions: a_pin_does_not_need_a_tokenizer,
            decisions: the_response_reports_only_where_asked,
            decisions: a_json_answer_will_do,
            decisions: the_deadline_counts_from_the_call_and_our_own_work_is_no_waiting,
            failures: every_failed_answer_has_its_reason,
            failures: a_call_that_can_not_start_falls_back,
            failures: an_answer_without_status_is_an_unreachable_indexer,
            failures: an_unusable_decision_is_a_bad_reply,
            failures: a_late_answer_is_ignored,
            failures: an_answer_nobody_waits_for_is_ignored,
            failures: a_header_that_envoy_refuses_falls_back,
            failures: failures_in_a_row_open_the_breaker_and_one_probe_closes_it,
            failures: answers_about_the_request_leave_the_breaker_closed,
            models: without_a_manifest_requests_pass_at_once,
            models: a_model_that_is_loading_falls_back,
            models: an_unknown_model_falls_back,
            models: a_model_without_a_table_falls_back_or_goes_as_text,
            models: an_unchanged_manifest_fetches_nothing,
            models: the_old_tokenizer_serves_until_the_new_one_is_there,
            models: an_indexer_that_compiles_anew_costs_no_tokenizer,
            models: a_model_that_is_gone_is_unknown,
            models: a_file_that_is_not_what_its_name_says_is_refused,
            models: a_file_that_does_not_come_is_asked_for_again,
            models: a_table_of_another_format_is_no_table,
            models: models_that_share_a_table_fetch_it_once,
            models: gauges_go_when_the_vm_does,
            lifecycle: a_streamed_answer_is_told_in_batches,
            lifecycle: a_whole_answer_tells_what_the_engine_had_cached,
            lifecycle: who_leaves_aborts,
            lifecycle: an_error_teaches_no_first_token,
            lifecycle: what_was_not_routed_is_not_told,
            lifecycle: the_operator_chooses_how_much_is_told,
            lifecycle: requests_one_after_the_other_do_not_hold_up_the_timer,
            lifecycle: pieces_cost_nothing,
            lifecycle: reports_are_bounded_and_losses_counted,
            lifecycle: trailers_end_an_answer,
            slices: a_long_prompt_is_worked_off_tick_by_tick,
            slices: a_short_prompt_does_not_wait_behind_a_long_one,
            slices: long_prompts_take_turns,
            slices: a_client_that_leaves_ends_its_work,
            slices: a_model_that_is_replaced_meanwhile_finishes_its_prompts,
            slices: a_new_configuration_lets_all_requests_go,
            slices: more_work_than_can_be_held_is_let_go,
            slices: a_refusal_between_slices_lets_go_once,
            slices: a_prompt_is_hashed_up_to_the_cap,
            slices: what_earlier_prompts_left_is_counted,
            stream: before_the_greeting_and_after_the_end_questions_are_calls,
            stream: answers_on_the_stream_come_in_any_order,
            stream: an_error_on_the_stream_has_its_reason,
            stream: a_stream_that_ends_lets_go_what_was_asked_on_it,
            stream: the_deadline_holds_on_the_stream,
            stream: what_is_no_message_of_the_protocol_is_ignored,
            stream: without_a_stream_there_are_calls,
            stream: a_stream_that_takes_no_message_falls_back,
            stream: the_stream_goes_with_the_vm,
            stream: a_held_question_outlasts_the_deadline_by_as_long_as_it_is_held,
            stream: a_held_question_that_nobody_waits_for_is_taken_back,
            stream: a_refusal_for_busy_workers_is_answered_with_when_to_come_again,
        }
    };
}
pub(crate) use every_scenario;

defmodule Image.ZeroShot.Serving.Request do
  @moduledoc false

  # What a caller asks of a serving: embeddings of pictures and of prompts.

  # Pictures and labels are the callers' own: no crash report shows them.
  @derive {Inspect, only: [:caller, :deadline, :alone]}
  @enforce_keys [:caller, :reply_to, :deadline, :since, :pixels, :prompts]
  defstruct [:caller, :reply_to, :deadline, :since, :pixels, :prompts, alone: false]

  @typedoc """
  `:caller` is a process of this node, `:reply_to` an alias of it. `:deadline` is in milliseconds
  of this node's monotonic time or `:infinity`, `:since` is in its native unit.
  """
  @type t :: %__MODULE__{
          caller: pid(),
          reply_to: reference(),
          deadline: integer() | :infinity,
          since: integer(),
          pixels: [binary()],
          prompts: [String.t()],
          alone: boolean()
        }
end

defmodule Image.ZeroShot.Serving.Request do
  @moduledoc false

  # What a caller asks of a serving: embeddings of pictures and of prompts, or the parts of pictures'
  # embeddings.

  alias Image.ZeroShot.Call.Callers
  alias Image.ZeroShot.Serving.Pace

  # Pictures and labels are the callers' own: no crash report shows them.
  @derive {Inspect, only: [:caller, :deadline, :alone]}
  @enforce_keys [:caller, :owner, :reply_to, :deadline, :since, :pixels, :prompts]
  defstruct [
    :caller,
    :owner,
    :reply_to,
    :deadline,
    :since,
    :pixels,
    :prompts,
    kind: :embed,
    alone: false
  ]

  @typedoc """
  `:caller` is a process of this node, `:reply_to` an alias of it. Owners take turns. `:deadline` is in milliseconds
  of this node's monotonic time or `:infinity`, `:since` is in its native unit. One of `:kind` `:parts` is
  `:alone`.
  """
  @type t :: %__MODULE__{
          caller: pid(),
          owner: Callers.owner(),
          reply_to: reference(),
          deadline: integer() | :infinity,
          since: integer(),
          pixels: [binary()],
          prompts: [String.t()],
          kind: kind(),
          alone: boolean()
        }

  @typedoc "What becomes of the pictures."
  @type kind :: :embed | :parts

  @doc """
  How much work a request or a batch is, in prompts.
  """
  @spec work(%{pixels: [binary()], prompts: [String.t()]}) :: non_neg_integer()
  def work(%{pixels: pixels, prompts: prompts}),
    do: length(pixels) * Pace.prompts_a_picture() + length(prompts)
end
